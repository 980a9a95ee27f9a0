"""Compare an exported Core ML pipeline with torch, on macOS.

Every stage of the folder runs on seeded random inputs, and so does torch in float32. Core ML
predicts on macOS only, and the authors have not run this yet.
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # run by path, this folder's packages would hide the libraries
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]

import numpy as np
import torch
import typer
from rich.table import Table

from lorarar.artefacts.pipeline import check_files, read_manifest
from lorarar.command import run_script
from lorarar.errors import LorararError
from lorarar.export.coreml.check import compare
from lorarar.export.parts import BUILDERS, random_inputs
from lorarar.export.report import console
from lorarar.export.source import open_model
from lorarar.export.stages import stages_of

# Relative errors that fail a check of one output, of random inputs and factors.
TOLERANCES: dict[str, float] = {"fp16": 2e-2, "int8": 1e-1, "palette6": 2e-1, "palette4": 5e-1}


def check(
    folder: Annotated[Path, typer.Argument(help="an exported pipeline")],
    model: Annotated[str, typer.Option(help="what it was exported from, as with to_coreml")],
) -> None:
    """Compare each stage's outputs with torch's; fails if an error is more than the tolerance."""
    if sys.platform != "darwin":
        raise LorararError(f"{folder}: Core ML predicts on macOS only; run this script there")
    pipeline = read_manifest(folder)
    check_files(folder, pipeline)
    tolerance = TOLERANCES[pipeline.quantize]
    table = Table("part", "output", "relative error", "PSNR dB")
    worst = 0.0
    with open_model(model, None) as opened:
        for name, written in pipeline.parts.items():
            with torch.device("meta"), torch.no_grad():
                whole = BUILDERS[name](opened, 1, pipeline.side)
                stages = stages_of(whole) if len(written) > 1 else [whole]
            inputs, factors = random_inputs(whole, opened)
            packages = [folder / stage.file for stage in written]
            for part, output, relative, psnr in compare(packages, stages, inputs | factors):
                table.add_row(part, output, f"{relative:.1e}", f"{psnr:.1f}")
                worst = max(worst, relative if np.isfinite(relative) else np.inf)
    console.print(table)
    if worst > tolerance:
        raise LorararError(f"{folder}: an error of {worst:.1e}, more than {tolerance:.0e}")


if __name__ == "__main__":
    run_script(check)

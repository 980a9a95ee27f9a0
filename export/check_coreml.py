"""Compare an exported Core ML pipeline with torch, on macOS.

Every stage of the folder runs on seeded random inputs, and so does torch in float32. Core ML
predicts on macOS only, and the authors have not run this yet.
"""

import sys
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Table

from lorarar.artefacts.formats import CoremlQuantize
from lorarar.artefacts.pipeline import check_files, read_manifest
from lorarar.command import console, run_script
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.tolerances import COREML_OUTPUT


def check(
    folder: Annotated[Path, typer.Argument(help="an exported pipeline")],
    model: Annotated[str, typer.Option(help="what it was exported from, as with to_coreml")],
) -> None:
    """Compare each stage's outputs with torch's; fails if an error is more than the tolerance."""
    if sys.platform != "darwin":
        raise LorararError(f"{folder}: Core ML predicts on macOS only; run this script there")
    from lorarar.export.coreml.check import compare_folder
    from lorarar.export.source import open_model

    pipeline = read_manifest(folder)
    check_files(folder, pipeline)
    stored_as = one_of("--quantize", pipeline.quantize, get_args(CoremlQuantize), str(folder))
    table = Table("part", "output", "relative error", "PSNR dB")
    worst = 0.0
    with open_model(model, None) as opened:
        for part, output, relative, psnr in compare_folder(folder, pipeline, opened):
            table.add_row(part, output, f"{relative:.1e}", f"{psnr:.1f}")
            worst = max(worst, relative if isfinite(relative) else inf)
    console.print(table)
    tolerance = COREML_OUTPUT[stored_as]
    if worst > tolerance:
        raise LorararError(f"{folder}: an error of {worst:.1e}, more than {tolerance:.0e}")


if __name__ == "__main__":
    run_script(check)

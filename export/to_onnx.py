"""Export to ONNX: a whole pipeline with --model, else the hypernetwork alone."""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # run by path, this folder's `onnx` would hide the library
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]

import typer

from lorarar.artefacts.formats import FORMATS
from lorarar.command import run_script
from lorarar.export import options


def main(
    context: typer.Context,
    model: options.ModelName = None,
    random_weights: options.RandomWeights = None,
    quantize: options.Quantize = FORMATS["onnx"].quantize,
    psnr: Annotated[
        float | None,
        typer.Option(help="widen the most sensitive layers until every image reaches these dB"),
    ] = None,
    hypernet: options.HypernetPath = None,
    output: options.Output = None,
    dtype: options.MergerDtype = "fp32",
    force: options.Force = False,
) -> None:
    """Export a model with LoRA slots (none, fp16, int8, int4), or a hypernetwork, to ONNX."""
    options.export(
        context,
        "onnx",
        model=model,
        random_weights=random_weights,
        quantize=quantize,
        hypernet=hypernet,
        output=output,
        dtype=dtype,
        force=force,
        psnr=psnr,
    )


if __name__ == "__main__":
    run_script(main)

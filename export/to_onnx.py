"""Export to ONNX: a whole pipeline with --model, else the hypernetwork alone."""

from typing import Annotated, get_args

import typer

from lorarar.artefacts.formats import FORMATS, OnnxQuantize
from lorarar.command import Force, run_script
from lorarar.export import options
from lorarar.export.choices import one_of


def main(
    context: typer.Context,
    model: options.ModelName = None,
    random_weights: options.RandomWeights = None,
    quantize: options.QuantizeOption = FORMATS["onnx"].quantize,
    psnr: Annotated[
        float | None,
        typer.Option(help="widen the most sensitive layers until every image reaches these dB"),
    ] = None,
    hypernet: options.OptionalHypernet = None,
    output: options.OptionalOutput = None,
    dtype: options.MergerDtype = "fp32",
    force: Force = False,
) -> None:
    """Export a model with LoRA slots (none, fp16, int8, int4), or a hypernetwork, to ONNX."""
    if not options.wants_pipeline(context, model, random_weights):
        options.export_hypernet_alone("onnx", hypernet, output, dtype, force)
        return
    from lorarar.export.onnx.pipeline import export_pipeline

    options.export_opened(
        model,
        random_weights,
        hypernet,
        lambda opened, loaded: export_pipeline(
            opened,
            output or options.FOLDER,
            one_of("--quantize", quantize, get_args(OnnxQuantize), "ONNX"),
            hypernet=loaded,
            force=force,
            psnr=psnr,
        ),
    )


if __name__ == "__main__":
    run_script(main)

"""Export to Core ML: a whole pipeline with --model, else the hypernetwork alone."""

from typing import get_args

import typer

from lorarar.artefacts.formats import FORMATS, CoremlQuantize
from lorarar.command import Force, run_script
from lorarar.export import options
from lorarar.export.choices import one_of


def main(
    context: typer.Context,
    model: options.ModelName = None,
    random_weights: options.RandomWeights = None,
    quantize: options.QuantizeOption = FORMATS["coreml"].quantize,
    side: options.LatentSide = 0,
    hypernet: options.OptionalHypernet = None,
    output: options.OptionalOutput = None,
    dtype: options.MergerDtype = "fp32",
    force: Force = False,
) -> None:
    """Export a model with LoRA slots (fp16, int8, palette6, palette4), or a hypernetwork."""
    if not options.wants_pipeline(context, model, random_weights):
        options.export_hypernet_alone("coreml", hypernet, output, dtype, force)
        return
    from lorarar.export.coreml.pipeline import export_pipeline

    options.export_opened(
        model,
        random_weights,
        hypernet,
        lambda opened, loaded: export_pipeline(
            opened,
            output or options.FOLDER,
            one_of("--quantize", quantize, get_args(CoremlQuantize), "Core ML"),
            hypernet=loaded,
            force=force,
            side=side,
        ),
    )


if __name__ == "__main__":
    run_script(main)

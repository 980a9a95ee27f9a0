"""Export to ExecuTorch: a whole pipeline with --model, else the hypernetwork alone."""

from typing import Annotated, get_args

import typer

from lorarar.artefacts.formats import FORMATS, ExecutorchQuantize
from lorarar.command import Force, run_script
from lorarar.export import options
from lorarar.export.choices import one_of


def main(
    context: typer.Context,
    model: options.ModelName = None,
    random_weights: options.RandomWeights = None,
    quantize: options.QuantizeOption = FORMATS["executorch"].quantize,
    delegate: Annotated[str, typer.Option(help="with a model: who computes")] = "xnnpack",
    side: options.LatentSide = 0,
    hypernet: options.OptionalHypernet = None,
    output: options.OptionalOutput = None,
    dtype: options.MergerDtype = "fp32",
    force: Force = False,
) -> None:
    """Export a model with LoRA slots (none, int8, int4), or a hypernetwork, to ExecuTorch."""
    if not options.wants_pipeline(context, model, random_weights):
        options.export_hypernet_alone("executorch", hypernet, output, dtype, force)
        return
    from lorarar.export.executorch.lower import choose_delegate
    from lorarar.export.executorch.pipeline import export_pipeline

    options.export_opened(
        model,
        random_weights,
        hypernet,
        lambda opened, loaded: export_pipeline(
            opened,
            output or options.FOLDER,
            one_of("--quantize", quantize, get_args(ExecutorchQuantize), "ExecuTorch"),
            hypernet=loaded,
            force=force,
            delegate=choose_delegate(delegate),
            side=side,
        ),
    )


if __name__ == "__main__":
    run_script(main)

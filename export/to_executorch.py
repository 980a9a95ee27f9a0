"""Export to ExecuTorch: a whole pipeline with --model (see `executorch_pipeline`), else the
hypernetwork, as one .pte with a method per form and width, on XNNPACK."""

import logging
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from lorarar.command import run_script
from lorarar.export import command
from lorarar.export.artefact import ExportReport, size_in_megabytes, verify
from lorarar.export.hypernet_module import export_graph
from lorarar.export.torch_shortcuts import shortcuts
from lorarar.files import refuse_existing, write_atomically
from lorarar.hypernet import Hypernet
from lorarar.merger_format import Manifest
from lorarar.runtime.backends import executorch


def export_hypernet(
    hypernet: Hypernet, path: Path, dtype: str = "fp32", force: bool = False
) -> ExportReport:
    """Write a .pte file, after running every method in ExecuTorch against numpy.

    dtype: "fp32", "fp16" or "int8"; see `lorarar.merger_format.Manifest`. The casts of the
    latter two run on ExecuTorch's own kernels, before XNNPACK's part.

    Raises LorararError if `path` exists (without `force`), cannot be written, or if a method
    differs from numpy.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    manifest = Manifest.of(hypernet, dtype)
    with warnings.catch_warnings(), shortcuts():
        warnings.simplefilter("ignore")
        lowered = to_edge_transform_and_lower(
            {name: export_graph(hypernet, name, manifest) for name in manifest.graphs()},
            partitioner=[XnnpackPartitioner()],
            constant_methods={"manifest": manifest.to_json()},
        )
        program = lowered.to_executorch().buffer
    reports = verify(executorch.open_program(program, path)[1], hypernet, manifest, path)
    write_atomically(path, lambda file: file.write(executorch.seal(program)), force)
    return ExportReport(path, size_in_megabytes(path), time.perf_counter() - started, reports)


QUANTIZE = "int8"
FORMAT = command.Format(export_hypernet, "merger.pte", "fp32", "lorarar.export.executorch_pipeline")


def main(
    context: typer.Context,
    model: command.ModelName = None,
    random_weights: command.RandomWeights = None,
    quantize: command.Quantize = QUANTIZE,
    delegate: Annotated[str, typer.Option(help="with a model: who computes")] = "xnnpack",
    side: command.Side = 0,
    hypernet: command.HypernetPath = None,
    output: command.Output = None,
    dtype: command.Dtype = "fp32",
    force: command.Force = False,
) -> None:
    """Export a model with LoRA slots (none, int8, int4), or a hypernetwork, to ExecuTorch."""
    options = {"delegate": delegate, "side": side}
    command.export(
        context, FORMAT, model, random_weights, quantize, hypernet, output, dtype, force, **options
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_script(main)

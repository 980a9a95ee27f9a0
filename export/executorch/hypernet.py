"""Export the hypernetwork to ExecuTorch: one .pte, a method per form and width, on XNNPACK."""

import time
from pathlib import Path

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from lorarar.artefacts.formats import Dtype
from lorarar.artefacts.merger import MergerManifest
from lorarar.export.executorch.shortcuts import shortcuts
from lorarar.export.merge_graphs import export_graph
from lorarar.export.report import ExportReport, size_in_megabytes, verify
from lorarar.files import refuse_existing, write_atomically
from lorarar.hypernet import Hypernet
from lorarar.parallel import cores
from lorarar.runtime.backends import executorch


def export_hypernet(
    hypernet: Hypernet, path: Path, dtype: Dtype = "fp32", force: bool = False
) -> ExportReport:
    """Write a .pte file, after running every method in ExecuTorch against numpy.

    dtype: "fp32", "fp16" or "int8"; see `lorarar.artefacts.merger.MergerManifest`. The casts of the
    latter two run on ExecuTorch's own kernels, before XNNPACK's part.

    Raises LorararError if `path` exists (without `force`), cannot be written, or if a method
    differs from numpy.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    manifest = MergerManifest.of(hypernet, dtype)
    with shortcuts():
        lowered = to_edge_transform_and_lower(
            {name: export_graph(hypernet, name, manifest) for name in manifest.graphs()},
            partitioner=[XnnpackPartitioner()],
            constant_methods={"manifest": manifest.to_json()},
        )
        program = lowered.to_executorch().buffer
    executorch.use_threads(cores())
    reports = verify(executorch.open_program(program, path)[1], hypernet, manifest, path)
    write_atomically(path, lambda file: file.write(executorch.seal(program)), force)
    return ExportReport(
        path=path,
        megabytes=size_in_megabytes(path),
        seconds=time.perf_counter() - started,
        graphs=reports,
    )

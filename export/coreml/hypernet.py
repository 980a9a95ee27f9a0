"""Export the hypernetwork to Core ML: one .mlpackage, a function per form and width.

Core ML predicts on macOS only. Elsewhere the package is converted and its spec checked, and the
tool says so; nothing here has been predicted with on macOS yet.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.models.utils import MultiFunctionDescriptor, rename_feature, save_multifunction

from lorarar.artefacts.formats import LARGEST_RANK, Dtype
from lorarar.artefacts.merger import MergerManifest
from lorarar.errors import LorararError
from lorarar.export.coreml.check import NOT_RUN, TARGET
from lorarar.export.merge_graphs import export_graph
from lorarar.export.report import ExportReport, GraphReport, size_in_megabytes, verify
from lorarar.files import refuse_existing, write_folder_atomically
from lorarar.hypernet import Hypernet
from lorarar.quiet import without_bars
from lorarar.runtime.backends import coreml

PRECISION = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}


def export_hypernet(
    hypernet: Hypernet, path: Path, dtype: Dtype = "fp32", force: bool = False
) -> ExportReport:
    """Write an .mlpackage for iOS 18 / macOS 15 or later, and check its spec.

    dtype: "fp32" or "fp16"; the latter computes in float16 too, as Core ML's engines do.

    Raises LorararError if `path` exists (without `force`), cannot be written, if the dtype is
    int8 (coremltools 9 converts no int8 inputs from torch, whatever the target), or if the spec
    is not as wanted.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    manifest = MergerManifest.of(hypernet, dtype)
    if dtype == "int8":
        raise LorararError(
            f"{path}: coremltools converts no int8 inputs from torch; use --dtype fp16"
        )
    with tempfile.TemporaryDirectory() as folder:
        with without_bars():
            package = _package(hypernet, manifest, Path(folder))
        check_functions(ct.utils.load_spec(str(package)), manifest, path)
        graphs: list[GraphReport] = []
        if sys.platform == "darwin":
            graphs = verify(coreml.load(package, 1)[1], hypernet, manifest, path)
        write_folder_atomically(
            path, lambda target: shutil.copytree(package, target, dirs_exist_ok=True), force
        )
    return ExportReport(
        path=path,
        megabytes=size_in_megabytes(path),
        seconds=time.perf_counter() - started,
        graphs=graphs,
        note="" if graphs else NOT_RUN,
    )


def check_functions(spec: Any, manifest: MergerManifest, path: Path) -> None:
    """Raise LorararError unless each function has its inputs, their ranges and its output."""
    functions = {function.name: function for function in spec.description.functions}
    if functions.keys() != manifest.graphs().keys():
        raise LorararError(f"{path}: functions {sorted(functions)} instead of the manifest's")
    for name, (form, _) in manifest.graphs().items():
        found = [value.name for value in functions[name].input]
        wanted = list(manifest.inputs(form))
        outputs = [value.name for value in functions[name].output]
        if found != wanted or outputs != ["m"]:
            raise LorararError(f"{path}: '{name}' takes {found}, gives {outputs}, not {wanted}, m")
        if form != "full":
            ranks = functions[name].input[0].type.multiArrayType.shapeRange.sizeRanges[1]
            if (ranks.lowerBound, ranks.upperBound) != (1, LARGEST_RANK):
                raise LorararError(f"{path}: '{name}' has a fixed rank")


def _package(hypernet: Hypernet, manifest: MergerManifest, folder: Path) -> Path:
    """Write a package with every function and the manifest, and return its path."""
    functions = MultiFunctionDescriptor()
    for name in manifest.graphs():
        _convert(hypernet, name, manifest).save(str(folder / f"{name}.mlpackage"))
        functions.add_function(str(folder / f"{name}.mlpackage"), "main", name)
    functions.default_function_name = next(iter(manifest.graphs()))
    save_multifunction(functions, str(folder / "all.mlpackage"))
    package = ct.models.MLModel(str(folder / "all.mlpackage"), skip_model_load=True)
    package.user_defined_metadata["manifest"] = manifest.to_json()
    package.save(str(folder / "merger.mlpackage"))
    return folder / "merger.mlpackage"


def _convert(hypernet: Hypernet, name: str, manifest: MergerManifest) -> ct.models.MLModel:
    form, _ = manifest.graphs()[name]
    model = ct.convert(
        export_graph(hypernet, name, manifest).run_decompositions({}),
        outputs=[ct.TensorType(name="m", dtype=np.float32)],
        minimum_deployment_target=TARGET,
        compute_precision=PRECISION[manifest.dtype],
        skip_model_load=True,
    )
    spec = model.get_spec()
    for index, part in enumerate(manifest.inputs(form)):
        rename_feature(spec, f"inputs_{index}", part)
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)

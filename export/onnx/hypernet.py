"""Export the hypernetwork to ONNX: its forms and widths all in one file, for one session.

Each input is an overridable initializer that is empty by default, so that a run feeds the inputs of
one graph only and asks for its output `<form>_<width>.m`.
"""

import tempfile
import time
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto, helper

from lorarar.artefacts.formats import Dtype
from lorarar.artefacts.merger import MergerManifest
from lorarar.export.merge_graphs import export_all_graphs
from lorarar.export.report import ExportReport, size_in_megabytes, verify
from lorarar.files import refuse_existing, write_atomically
from lorarar.hypernet import Hypernet
from lorarar.runtime.backends import onnxruntime


def export_hypernet(
    hypernet: Hypernet, path: Path, dtype: Dtype = "fp32", force: bool = False
) -> ExportReport:
    """Write an .onnx file, after running every graph in ONNX Runtime against numpy.

    dtype: "fp32", "fp16" or "int8"; see `lorarar.artefacts.merger.MergerManifest`.

    Raises LorararError if `path` exists (without `force`), cannot be written, or if a graph
    differs from numpy.
    """
    started = time.perf_counter()
    refuse_existing(path, force)
    manifest = MergerManifest.of(hypernet, dtype)
    model = _model(hypernet, manifest)
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        onnx.save(model, draft)
        reports = verify(onnxruntime.load(draft, 1)[1], hypernet, manifest, path)
    write_atomically(path, lambda file: file.write(model.SerializeToString()), force)
    return ExportReport(
        path=path,
        megabytes=size_in_megabytes(path),
        seconds=time.perf_counter() - started,
        graphs=reports,
    )


def _model(hypernet: Hypernet, manifest: MergerManifest) -> ModelProto:
    graphs = manifest.graphs()
    inputs = [
        f"{name}.{part}" for name, (form, _) in graphs.items() for part in manifest.inputs(form)
    ]
    program = torch.onnx.export(
        export_all_graphs(hypernet, manifest),
        dynamo=True,
        verbose=False,
        optimize=False,  # it would fold int8 weights into float32
        input_names=inputs,
        output_names=[f"{name}.m" for name in graphs],
    )
    assert program is not None  # the exporter's result without a file name
    model = program.model_proto
    model.graph.initializer.extend(_empty(value) for value in model.graph.input)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # the exporter's stack traces, with this machine's paths
    helper.set_model_props(model, {"manifest": manifest.to_json()})
    return model


def _empty(value: onnx.ValueInfoProto) -> TensorProto:
    kind = value.type.tensor_type
    shape = [dimension.dim_value for dimension in kind.shape.dim]  # 0 where dynamic
    if 0 not in shape:  # int8 scales have no dynamic dimension
        return helper.make_tensor(value.name, kind.elem_type, shape, [0.0] * shape[0])
    return helper.make_tensor(value.name, kind.elem_type, shape, [])

"""The formats' packages, imported when they are asked for, each with the same two entrances.

See `HypernetExporter` and `PipelineExporter`, to which the type checker holds every package.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from lorarar.artefacts.formats import Dtype, FormatName
from lorarar.hypernet import Hypernet

if TYPE_CHECKING:  # their imports take seconds
    from lorarar.export.folder import PipelineReport
    from lorarar.export.parts import OpenedModel
    from lorarar.export.report import ExportReport


class HypernetExporter(Protocol):
    """A format's module `hypernet`."""

    def export_hypernet(
        self, hypernet: Hypernet, path: Path, dtype: Dtype = "fp32", force: bool = False
    ) -> "ExportReport":
        """Write an artefact, after running every graph of it where the format runs here.

        Raises LorararError if `path` exists (without `force`), cannot be written, or if a graph
        differs from numpy.
        """


class PipelineExporter(Protocol):
    """A format's module `pipeline`."""

    def export_pipeline(
        self,
        model: "OpenedModel",
        path: Path,
        *,
        hypernet: Hypernet | None = None,
        force: bool = False,
    ) -> "PipelineReport":
        """Write a folder in the format's usual precision, with the hypernetwork if there is one.

        Raises LorararError if the path exists (without `force`), if there is not enough room, if
        weights are missing or misshapen, or if a part is not as wanted.
        """


def export_hypernet(
    name: FormatName, hypernet: Hypernet, path: Path, dtype: Dtype, *, force: bool = False
) -> "ExportReport":
    """Write a hypernetwork in a format; see `HypernetExporter`."""
    exporter = cast(HypernetExporter, import_module(f"lorarar.export.{name}.hypernet"))
    return exporter.export_hypernet(hypernet, path, dtype, force)


def pipeline_exporter(name: FormatName) -> PipelineExporter:
    """Import what exports whole pipelines to a format."""
    return cast(PipelineExporter, import_module(f"lorarar.export.{name}.pipeline"))


if TYPE_CHECKING:
    import lorarar.export.coreml.hypernet as coreml_hypernet
    import lorarar.export.coreml.pipeline as coreml_pipeline
    import lorarar.export.executorch.hypernet as executorch_hypernet
    import lorarar.export.executorch.pipeline as executorch_pipeline
    import lorarar.export.onnx.hypernet as onnx_hypernet
    import lorarar.export.onnx.pipeline as onnx_pipeline

    _HYPERNETS: tuple[HypernetExporter, ...] = (
        onnx_hypernet,
        executorch_hypernet,
        coreml_hypernet,
    )
    _PIPELINES: tuple[PipelineExporter, ...] = (
        onnx_pipeline,
        executorch_pipeline,
        coreml_pipeline,
    )

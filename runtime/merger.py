"""Merging through an exported hypernetwork, whatever engine runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from lorarar.artefacts.merger import Form, MergerManifest
from lorarar.errors import LorararError
from lorarar.files import Array
from lorarar.hypernet import ROLES, Role, add_offset, is_predicted
from lorarar.lora import Lora, load_lora, refuse_bad_weights
from lorarar.merge import Coefficients, predicted_layers, weighted_sum
from lorarar.numeric import narrow, quietly, widen
from lorarar.parallel import WORTH_A_THREAD, side_by_side
from lorarar.prepare import check_prepared, kept_feature
from lorarar.runtime.backends import Backend, RunGraph
from lorarar.runtime.slots import scaled_factors


@dataclass(frozen=True)
class Merger:
    """An open artefact: what it can do, and how to run one of its graphs.

    workers: how many layers run side by side; more than one needs a `run` that threads may share.
    threads: as asked for, of what needs no engine.
    """

    manifest: MergerManifest
    run: RunGraph
    workers: int
    source: str
    threads: int

    @classmethod
    def open(cls, path: Path, backend: Backend, threads: int) -> "Merger":
        """Open an artefact by the engine that it was exported for.

        Raises LorararError if the engine cannot run here, or if the file is damaged or of a newer
        format.

        >>> from lorarar.runtime.backends import load_backend
        >>> Merger.open(artefact, load_backend("onnxruntime"), threads=1).manifest.widths
        [96, 160]
        """
        manifest, run, workers = backend.load(path, threads)
        return cls(manifest, run, workers, str(path), threads)

    def merge(
        self,
        content: Lora | str | Path,
        style: Lora | str | Path,
        content_scale: float = 1.0,
        style_scale: float = 1.0,
    ) -> Lora:
        """Return the merged LoRA of rank r_c + r_s; see `lorarar.merge.weighted_sum`.

        content, style: LoRAs, or paths of their files, plain or prepared. Files stay mapped until
        the merged factors are read: where others may overwrite them meanwhile, give what
        `load_lora(path, mapped=False)` reads.

        Raises LorararError for bad files, or LoRAs that do not fit together or the artefact.

        >>> from lorarar.runtime import load_merger
        >>> merged = load_merger(artefact).merge(content, style)
        >>> sum(layer.rank for layer in merged.layers.values()) > 0
        True
        """
        one, other = (
            side if isinstance(side, Lora) else load_lora(side) for side in (content, style)
        )
        return weighted_sum(one, other, self.coefficients(one, other), content_scale, style_scale)

    def coefficients(self, content: Lora, style: Lora) -> Coefficients:
        """Predict m = (m_c, m_s), (2, in) float32, for each layer that the artefact covers.

        Uses what both LoRAs have prepared alike, else their factors. A layer that one of them
        lacks counts as zero there. Full features of wide layers need no engine if numba is
        installed, see `lorarar.runtime.fused`, nor be of one level.

        Raises LorararError for LoRAs that do not fit together or the artefact.

        >>> from lorarar.runtime import load_merger
        >>> m = load_merger(artefact).coefficients(load_lora(content), load_lora(style))
        >>> {each.shape[0] for each in m.values()}
        {2}
        """
        pair: dict[Role, Lora] = {"content": content, "style": style}
        for role, lora in pair.items():
            check_prepared(lora, role, self.manifest.fingerprint, self.source)
        names = predicted_layers(content, style, self._predicts, self.source)
        self._check_widths(names, content, style)
        read_out = self.manifest.read_out_weights
        needs_engine = read_out is None or not self._is_wide_and_full(content, style)
        compiled = None if needs_engine else compiled_merge()
        if compiled:
            found = compiled(names, content, style, read_out, self.threads)
        else:
            found = self._run_graphs(names, content, style)
        offsets = self.manifest.layer_offsets
        for name in found.keys() & offsets.keys():
            m = add_offset(found[name], name, offsets, self.source)
            found[name] = refuse_bad_weights(m, name, content, style)
        return found

    def _run_graphs(self, names: list[str], content: Lora, style: Lora) -> Coefficients:
        form = self._form(content, style)
        pair: dict[Role, Lora] = {"content": content, "style": style}

        def predict(name: str) -> np.ndarray:
            shape = (content if name in content.layers else style).layers[name].shape
            arrays = [
                array for role in ROLES for array in self._inputs(name, pair[role], form, shape)
            ]
            return refuse_bad_weights(self.run(f"{form}_{shape[0]}", arrays), name, content, style)

        return side_by_side(quietly(predict), names, self.workers, max(self.manifest.widths))

    def _is_wide_and_full(self, content: Lora, style: Lora) -> bool:
        """Whether a merge needs no engine, and takes long enough for numba to be imported."""
        levels = [lora.prepared.level if lora.prepared else "" for lora in (content, style)]
        return (
            all(level.startswith("full") for level in levels)
            and max(self.manifest.widths) >= WORTH_A_THREAD
        )

    def _check_widths(self, names: list[str], content: Lora, style: Lora) -> None:
        for name in names:
            width, _ = (content if name in content.layers else style).layers[name].shape
            if width not in self.manifest.widths:
                raise LorararError(
                    f"{self.source}: layer '{name}' has out width {width}, but this artefact "
                    f"knows {self.manifest.widths}; export a hypernetwork for this base model"
                )

    def _predicts(self, name: str) -> bool:
        return is_predicted(name, tuple(self.manifest.predicts))

    def _form(self, content: Lora, style: Lora) -> Form:
        """Pick the form that uses what both have prepared, if the artefact takes it."""
        levels = {lora.prepared.level if lora.prepared else None for lora in (content, style)}
        if levels == {"small"}:
            return "small"
        taken = {"full-int8"} if self.manifest.dtype == "int8" else {"full-fp32", "full-fp16"}
        return "full" if levels <= taken else "factored"

    def _inputs(
        self, name: str, lora: Lora, form: Form, shape: tuple[int, int]
    ) -> list[np.ndarray]:
        """Return one side's inputs of a graph, for a layer of shape (out, in)."""
        dtypes = self.manifest.side_inputs(form)
        layer = lora.layers.get(name)
        if layer is None:
            out, width = shape
            shapes = {
                "up": (out, 1),
                "projected": (self.manifest.hidden, 1),
                "down": (1, width),
                "features": (self.manifest.hidden, width),
                "scales": (self.manifest.hidden, 1),
            }
            return [np.zeros(shapes[part], dtype) for part, dtype in dtypes.items()]
        parts: dict[str, Array] = {"down": layer.down}
        if form == "factored":
            parts["up"], parts["down"] = scaled_factors(layer, dtypes["up"])
        else:
            kept = kept_feature(name, lora)
            parts["projected"] = parts["features"] = kept.values
            if kept.scales is not None:
                parts["scales"] = kept.scales
        return [_as(parts[part], dtype) for part, dtype in dtypes.items()]


@cache
def compiled_merge() -> Callable[..., Coefficients] | None:
    """Import `prepared_coefficients`; None where numba is not installed or does not fit numpy."""
    try:
        from lorarar.runtime.fused import prepared_coefficients
    except ImportError:
        return None
    return prepared_coefficients


def _as(array: Array, dtype: np.dtype) -> np.ndarray:
    given = np.asarray(array)
    return given if given.dtype == dtype else narrow(widen(given), dtype)

"""Merging through an exported hypernetwork, whatever engine runs it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarar.artefacts.merger import MergerManifest
from lorarar.errors import LorararError
from lorarar.files import Array
from lorarar.hypernet import ROLES, add_offset, is_predicted
from lorarar.lora import Layer, Lora, load_lora, refuse_bad_weights
from lorarar.merge import Coefficients, predicted_layers, weighted_sum
from lorarar.numeric import narrow, quietly, widen
from lorarar.parallel import side_by_side
from lorarar.prepare import check_prepared, kept_feature
from lorarar.runtime.backends import Run


@dataclass(frozen=True)
class Merger:
    """An open artefact: what it can do, and how to run one of its graphs.

    workers: how many layers run side by side; more than one needs a `run` that threads may share.
    """

    manifest: MergerManifest
    run: Run
    workers: int
    source: str

    def merge(
        self,
        content: Lora | str | Path,
        style: Lora | str | Path,
        content_scale: float = 1.0,
        style_scale: float = 1.0,
    ) -> Lora:
        """Return the merged LoRA of rank r_c + r_s; see `lorarar.merge.weighted_sum`.

        content, style: LoRAs, or paths of their files, plain or prepared.

        Raises LorararError for bad files, or LoRAs that do not fit together or the artefact.
        """
        one, other = (
            side if isinstance(side, Lora) else load_lora(side)
            for side in (content, style)
        )
        return weighted_sum(one, other, self.coefficients(one, other), content_scale, style_scale)

    def coefficients(self, content: Lora, style: Lora) -> Coefficients:
        """Predict m = (m_c, m_s), (2, in) float32, for each layer that the artefact covers.

        Uses what both LoRAs have prepared alike, else their factors. A layer that one of them
        lacks counts as zero there.

        Raises LorararError for LoRAs that do not fit together or the artefact.
        """
        pair = {"content": content, "style": style}
        for role, lora in pair.items():
            check_prepared(lora, role, self.manifest.fingerprint, self.source)
        form = self._form(content, style)

        def predict(name: str) -> np.ndarray:
            width, columns = (content if name in content.layers else style).layers[name].shape
            if width not in self.manifest.widths:
                raise LorararError(
                    f"{self.source}: layer '{name}' has out width {width}, but this artefact knows "
                    f"{self.manifest.widths}; export a hypernetwork for this base model"
                )
            arrays = [
                array
                for role in ROLES
                for array in self._inputs(name, pair[role], form, width, columns)
            ]
            m = self.run(f"{form}_{width}", arrays)
            m = add_offset(m, name, self.manifest.layer_offsets, self.source)
            return refuse_bad_weights(m, name, content, style)

        names = predicted_layers(content, style, self._predicts, self.source)
        return side_by_side(quietly(predict), names, self.workers, max(self.manifest.widths))

    def _predicts(self, name: str) -> bool:
        return is_predicted(name, tuple(self.manifest.predicts))

    def _form(self, content: Lora, style: Lora) -> str:
        """Pick the form that uses what both have prepared, if the artefact takes it."""
        levels = {lora.prepared.level if lora.prepared else None for lora in (content, style)}
        if levels == {"small"}:
            return "small"
        taken = {"full-int8"} if self.manifest.dtype == "int8" else {"full-fp32", "full-fp16"}
        return "full" if levels <= taken else "factored"

    def _inputs(
        self, name: str, lora: Lora, form: str, width: int, columns: int
    ) -> list[np.ndarray]:
        layer = lora.layers.get(name)
        dtypes = self.manifest.side_inputs(form)
        if layer is None:
            shapes = {
                "up": (width, 1),
                "projected": (self.manifest.hidden, 1),
                "down": (1, columns),
                "features": (self.manifest.hidden, columns),
                "scales": (self.manifest.hidden, 1),
            }
            return [np.zeros(shapes[part], dtype) for part, dtype in dtypes.items()]
        kept = kept_feature(name, lora) if form != "factored" else None
        parts: dict[str, Array | None] = {
            "up": _scaled_up(layer),
            "down": layer.down,
            "projected": kept and kept.values,
            "features": kept and kept.values,
            "scales": kept and kept.scales,
        }
        return [_as(parts[part], dtype) for part, dtype in dtypes.items()]


def _scaled_up(layer: Layer) -> Array:
    up = layer.up
    return up if layer.scale == 1 else widen(np.asarray(up)) * np.float32(layer.scale)


def _as(array: Array | None, dtype: np.dtype) -> np.ndarray:
    given = np.asarray(array)
    return given if given.dtype == dtype else narrow(widen(given), dtype)

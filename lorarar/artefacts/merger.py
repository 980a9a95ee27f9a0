"""What an exported hypernetwork looks like from outside: shared by `export/` and `runtime/`.

An artefact holds one graph per form and output width, named `<form>_<width>`. Each takes the
inputs of the content side, then those of the style side, and gives m, (2, in) float32:

- factored: up (out, rank), down (rank, in)
- small: projected (hidden, rank), down (rank, in), as `prepare` keeps at level "small"
- full: features (hidden, in), as at level "full-..."; int8 features with scales (hidden, 1)

Its manifest, a JSON object, travels inside.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from lorarar.artefacts.formats import Dtype
from lorarar.errors import LorararError
from lorarar.hypernet import ROLES, Hypernet, Offsets

MERGER_FORMAT = "lorarar.merger.1"
Form = Literal["factored", "small", "full"]
FORMS: dict[Form, tuple[str, ...]] = {
    "factored": ("up", "down"),
    "small": ("projected", "down"),
    "full": ("features",),
}
INPUT_DTYPES: dict[Dtype, type] = {"fp32": np.float32, "fp16": np.float16, "int8": np.float16}


@dataclass(frozen=True)
class MergerManifest:
    """What the runtime must know of an artefact.

    dtype: "fp32"; "fp16": weights and inputs are float16; "int8": input weights are int8 with a
    scale per row, full features are int8 with scales, all other inputs float16. All compute is
    in float32, except that Core ML computes fp16 artefacts in float16. offsets: the layers'
    offsets, to be added to a graph's m, as base64 of safetensors.
    """

    widths: list[int]
    hidden: int
    predicts: list[str]
    dtype: Dtype
    fingerprint: str
    format: str = MERGER_FORMAT
    offsets: str = ""

    @classmethod
    def of(cls, hypernet: Hypernet, dtype: Dtype) -> "MergerManifest":
        """Describe a hypernetwork as it will be exported."""
        if dtype not in INPUT_DTYPES:
            raise LorararError(f"dtype '{dtype}' is unknown; use one of {', '.join(INPUT_DTYPES)}")
        return cls(
            sorted(hypernet.inputs),
            hypernet.hidden,
            list(hypernet.predicts),
            dtype,
            hypernet.fingerprint,
            offsets=_packed(hypernet.offsets) if hypernet.offsets else "",
        )

    @classmethod
    def parse(cls, text: str | None, path: Path) -> "MergerManifest":
        """Raises LorararError if `text` is no manifest of a format known here."""
        try:
            fields = json.loads(text or "")
            if fields["format"] == MERGER_FORMAT:
                manifest = cls(**fields)
                _ = manifest.layer_offsets
                return manifest
            reason = f"format {fields['format']}, but this version reads {MERGER_FORMAT}"
        except (ValueError, TypeError, KeyError, SafetensorError) as error:
            reason = f"no manifest of an exported hypernetwork: {error}"
        raise LorararError(f"{path}: {reason}; export it again with this version")

    def to_json(self) -> str:
        """Return what `parse` reads."""
        return json.dumps(asdict(self))

    @cached_property
    def layer_offsets(self) -> Offsets:
        """Map layers to their offsets, (2, in) float32."""
        return safetensors.load(b64decode(self.offsets)) if self.offsets else {}

    def graphs(self) -> dict[str, tuple[Form, int]]:
        """Map each graph's name to its form and width."""
        return {f"{form}_{width}": (form, width) for width in self.widths for form in FORMS}

    def side_inputs(self, form: Form) -> dict[str, np.dtype]:
        """Map one side's inputs to their dtypes, in order."""
        if form == "full" and self.dtype == "int8":
            return {"features": np.dtype(np.int8), "scales": np.dtype(np.float32)}
        return {part: np.dtype(INPUT_DTYPES[self.dtype]) for part in FORMS[form]}

    def inputs(self, form: Form) -> dict[str, np.dtype]:
        """Map a graph's inputs, `<part>_<role>`, to their dtypes, in order."""
        return {
            f"{part}_{role}": dtype
            for role in ROLES
            for part, dtype in self.side_inputs(form).items()
        }


def _packed(offsets: Offsets) -> str:
    return b64encode(safetensors.save(dict(offsets))).decode()

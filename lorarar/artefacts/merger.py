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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from lorarar.artefacts.formats import Dtype
from lorarar.errors import LorararError
from lorarar.hypernet import ROLES, Hypernet, Offsets, ReadOut

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
    offsets, to be added to a graph's m, as base64 of safetensors. read_out: the same of what a
    prepared merge needs instead of a graph, "w2" (2, hidden), "b2" (2) and "b1.<width>" (hidden),
    all float32; older artefacts have none.
    """

    widths: list[int]
    hidden: int
    predicts: list[str]
    dtype: Dtype
    fingerprint: str
    format: str = MERGER_FORMAT
    offsets: str = ""
    read_out: str = ""

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
            read_out=_packed(_read_out_tensors(hypernet)),
        )

    @classmethod
    def parse(cls, text: str | None, path: Path) -> "MergerManifest":
        """Raises LorararError if `text` is no manifest of a format known here."""
        try:
            fields = json.loads(text or "")
            if fields["format"] == MERGER_FORMAT:
                manifest = cls(**fields)
                _ = manifest.layer_offsets, manifest.read_out_weights
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

    @cached_property
    def read_out_weights(self) -> ReadOut | None:
        """What a prepared merge needs; None if the artefact is older than this field.

        Raises ValueError or KeyError unless every tensor has its shape and dtype.
        """
        if not self.read_out:
            return None
        tensors = safetensors.load(b64decode(self.read_out))
        wanted = {"w2": (2, self.hidden), "b2": (2,)}
        wanted |= {f"b1.{width}": (self.hidden,) for width in self.widths}
        for name, shape in wanted.items():
            if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise ValueError(f"'{name}' of its read_out is not {shape} float32")
        biases = {width: tensors[f"b1.{width}"] for width in self.widths}
        return ReadOut(tensors["w2"], tensors["b2"], biases)

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


def _read_out_tensors(hypernet: Hypernet) -> dict[str, np.ndarray]:
    weight, bias, input_biases = hypernet.read_out_weights
    biases = {f"b1.{width}": each for width, each in input_biases.items()}
    return {"w2": weight, "b2": bias} | biases


def _packed(tensors: Mapping[str, np.ndarray]) -> str:
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return b64encode(safetensors.save(whole)).decode()

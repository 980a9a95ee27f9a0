"""The hypernetwork: (m_c[j], m_s[j]) = H(dW_c[:, j] ++ dW_s[:, j]), paper section 3.2."""

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from lorarar.errors import LorararError
from lorarar.files import read_safetensors, write_safetensors
from lorarar.numeric import widen

PUBLISHED_PROJECTIONS = ("to_q", "to_out.0")
Role = Literal["content", "style"]
ROLES: tuple[Role, Role] = ("content", "style")
OFFSET = "offset."
Offsets = Mapping[str, np.ndarray]


class ReadOut(NamedTuple):
    """All that turns a layer's summed features into m; float32.

    weight: (2, hidden); bias: (2); input_biases: width -> (hidden), added before the ReLU.
    """

    weight: np.ndarray
    bias: np.ndarray
    input_biases: dict[int, np.ndarray]


@dataclass(frozen=True)
class Hypernet:
    """One input Linear per output width, then a shared ReLU and Linear(hidden -> 2); float32.

    inputs: width -> (weight (hidden, 2 * width), bias (hidden)); a row's first half reads the
    content column, its second half the style column. output: (weight (2, hidden), bias (2)).
    predicts: suffixes of the attention projections it predicts; all others keep m = 1, 1.
    offsets: layer -> (2, in), added to what is predicted for that layer: what its columns are
    worth in any pair. The published method has none.
    """

    inputs: dict[int, tuple[np.ndarray, np.ndarray]]
    output: tuple[np.ndarray, np.ndarray]
    predicts: tuple[str, ...] = PUBLISHED_PROJECTIONS
    source: str = "<memory>"
    offsets: Offsets = field(default_factory=dict)

    @classmethod
    def random(
        cls,
        widths: tuple[int, ...] = (640, 1280),
        hidden: int = 128,
        predicts: tuple[str, ...] = PUBLISHED_PROJECTIONS,
        seed: int = 0,
    ) -> "Hypernet":
        """Untrained weights, for tests and latency measurements."""
        generator = np.random.default_rng(seed)

        def linear(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
            weight = generator.standard_normal((rows, columns), np.float32)
            bias = generator.standard_normal(rows, np.float32)
            return weight / np.float32(columns**0.5), bias / np.float32(columns**0.5)

        inputs = {width: linear(hidden, 2 * width) for width in widths}
        return cls(inputs, linear(2, hidden), predicts)

    @property
    def hidden(self) -> int:
        """Count the hidden features."""
        return self.output[0].shape[1]

    def predicted(self, layer: str) -> bool:
        """Whether it predicts coefficients for a layer of this name."""
        return is_predicted(layer, self.predicts)

    def half(self, layer: str, width: int, role: Role) -> np.ndarray:
        """Return the input weight's half that reads `role`, (hidden, width)."""
        weight, _ = self._input(layer, width)
        return weight[:, :width] if role == "content" else weight[:, width:]

    def read_out(self, layer: str, width: int, features: np.ndarray) -> np.ndarray:
        """Return m = W_out @ relu(features + b) + b_out, (..., 2, in), without the layer's offset,
        from (..., hidden, in), which is overwritten.

        As relu(f + b) = max(f, -b) + b, the bias costs no pass of its own over the features.
        """
        self._input(layer, width)  # refuses a width that it does not know
        lowest, shift = self._shifts[width]
        np.maximum(features, lowest, out=features)
        return self.output[0] @ features + shift

    @cached_property
    def _shifts(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Map each width to -b, (hidden, 1), and W_out @ b + b_out, (2, 1)."""
        weight, out_bias = self.output
        return {
            width: (-bias[:, None], (weight @ bias + out_bias)[:, None])
            for width, (_, bias) in self.inputs.items()
        }

    @property
    def read_out_weights(self) -> ReadOut:
        """What `read_out` computes with."""
        biases = {width: bias for width, (_, bias) in self.inputs.items()}
        return ReadOut(*self.output, biases)

    @cached_property
    def fingerprint(self) -> str:
        """Identify the weights, whatever file they came from."""
        digest = hashlib.sha256(json.dumps(self.predicts).encode())
        for name, tensor in sorted(to_tensors(self).items()):
            digest.update(name.encode() + tensor.tobytes())
        return digest.hexdigest()[:16]

    def _input(self, layer: str, width: int) -> tuple[np.ndarray, np.ndarray]:
        if width not in self.inputs:
            raise LorararError(
                f"{self.source}: layer '{layer}' has out width {width}, but this hypernetwork "
                f"knows {sorted(self.inputs)}; give one trained for this base model"
            )
        return self.inputs[width]


def add_offset(m: np.ndarray, layer: str, offsets: Offsets, source: str) -> np.ndarray:
    """Return m plus the layer's offset, if it has one, both (2, in).

    Raises LorararError if the layer has another number of columns than its offset.
    """
    if layer not in offsets:
        return m
    offset = offsets[layer]
    if offset.shape != m.shape:
        raise LorararError(
            f"{source}: layer '{layer}' has {m.shape[1]} columns, but this hypernetwork was "
            f"trained for {offset.shape[-1]}; give one trained for this base model"
        )
    return m + offset


def is_predicted(layer: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a layer is an attention projection of the UNet with one of these suffixes."""
    return layer.startswith("unet.") and ".attn" in layer and layer.endswith(suffixes)


def load_hypernet(path: str | Path) -> Hypernet:
    """Read lorarar's safetensors or the published `hypernet.pth`, without running its code.

    A `.pth` needs torch; `lorarar convert-hypernet` makes a safetensors file of it once.

    Raises LorararError if the file is missing, damaged or holds no hypernetwork.

    >>> from lorarar.embedded import HYPERNET
    >>> hypernet = load_hypernet(HYPERNET)
    >>> hypernet.hidden, sorted(hypernet.inputs)
    (16, [96, 160])
    """
    path = Path(path)
    is_pickle = path.suffix in (".pth", ".pt")
    tensors, metadata = (_read_pth(path), {}) if is_pickle else read_safetensors(path)
    try:
        predicts = tuple(json.loads(metadata.get("predicts", json.dumps(PUBLISHED_PROJECTIONS))))
        return from_tensors(tensors, predicts, str(path))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise LorararError(
            f"{path}: no hypernetwork ({error} missing or misshapen); give a LoRA.rar checkpoint"
        ) from error


def save_hypernet(hypernet: Hypernet, path: str | Path, force: bool = False) -> None:
    """Write safetensors with the published tensor names and the configuration as metadata.

    Raises LorararError if the path exists (without `force`) or cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_hypernet(Hypernet.random(hidden=8), f"{folder}/random.safetensors")
    ...     load_hypernet(f"{folder}/random.safetensors").hidden
    8
    """
    metadata = {"format": "lorarar.hypernet.1", "predicts": json.dumps(hypernet.predicts)}
    write_safetensors(Path(path), to_tensors(hypernet), metadata, force)


def to_tensors(hypernet: Hypernet) -> dict[str, np.ndarray]:
    """Name the weights as the published checkpoint does (`input_1.weight`, `output.1.bias`), and
    offsets `offset.<layer>`."""
    tensors = {"output.1.weight": hypernet.output[0], "output.1.bias": hypernet.output[1]}
    for index, width in enumerate(sorted(hypernet.inputs), start=1):
        tensors[f"input_{index}.weight"], tensors[f"input_{index}.bias"] = hypernet.inputs[width]
    return tensors | {OFFSET + layer: offset for layer, offset in hypernet.offsets.items()}


def from_tensors(
    tensors: Mapping[str, np.ndarray], predicts: tuple[str, ...], source: str
) -> Hypernet:
    """Raises KeyError or IndexError for missing weights, LorararError for unfit ones."""
    weights = {name: widen(np.asarray(tensor)) for name, tensor in tensors.items()}
    inputs = {
        weight.shape[1] // 2: (weight, weights[name.replace("weight", "bias")])
        for name, weight in weights.items()
        if re.fullmatch(r"input_\d+\.weight", name)
    }
    offsets = {
        name.removeprefix(OFFSET): weight
        for name, weight in weights.items()
        if name.startswith(OFFSET)
    }
    output = weights["output.1.weight"], weights["output.1.bias"]
    hypernet = Hypernet(inputs, output, predicts, source, offsets)
    weight, bias = hypernet.output
    hidden = weight.shape[-1]
    fits = weight.shape == (2, hidden) and bias.shape == (2,) and bool(inputs)
    for width, (rows, shift) in inputs.items():
        fits = fits and rows.shape == (hidden, 2 * width) and shift.shape == (hidden,)
    fits = fits and all(offset.ndim == 2 and len(offset) == 2 for offset in offsets.values())
    if not (fits and all(np.isfinite(tensor).all() for tensor in weights.values())):
        raise LorararError(f"{source}: weights of mismatched shapes or NaN; get the file again")
    return hypernet


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise LorararError(f"{path}: does not exist; name a hypernetwork checkpoint")
    try:
        import torch
    except ImportError as error:
        raise LorararError(
            f"{path}: a .pth file needs torch; run: pip install 'lorarar[formats]'"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise LorararError(f"{path}: not a plain weights file ({reason}); get it again") from error

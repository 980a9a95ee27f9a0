"""The hypernetwork: (m_c[j], m_s[j]) = H(dW_c[:, j] ++ dW_s[:, j]), paper section 3.2."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lorarar.errors import LorararError
from lorarar.files import read_safetensors, write_safetensors

PUBLISHED_PROJECTIONS = ("to_q", "to_out.0")


@dataclass
class Hypernet:
    """One input Linear per output width, then a shared ReLU and Linear(hidden -> 2).

    inputs: width -> (weight (hidden, 2 * width), bias (hidden)); a row's first half reads the
    content column, its second half the style column. output: (weight (2, hidden), bias (2)).
    predicts: suffixes of the projections it predicts; every other layer keeps m = 1, 1.
    """

    inputs: dict[int, tuple[Tensor, Tensor]]
    output: tuple[Tensor, Tensor]
    predicts: tuple[str, ...] = PUBLISHED_PROJECTIONS
    source: str = "<memory>"

    @classmethod
    def random(cls, widths: tuple[int, ...] = (640, 1280), hidden: int = 128, seed: int = 0):
        """Untrained weights, for tests and latency measurements."""
        generator = torch.Generator().manual_seed(seed)

        def linear(rows: int, columns: int) -> tuple[Tensor, Tensor]:
            weight = torch.randn(rows, columns, generator=generator) / columns**0.5
            return weight, torch.randn(rows, generator=generator) / columns**0.5

        return cls({width: linear(hidden, 2 * width) for width in widths}, linear(2, hidden))

    def predicted(self, layer: str) -> bool:
        return ".attn" in layer and layer.endswith(self.predicts)

    def input_for(self, layer: str, width: int) -> tuple[Tensor, Tensor]:
        """Raises LorararError if the hypernetwork was trained for a base of other widths."""
        if width not in self.inputs:
            raise LorararError(
                f"{self.source}: layer '{layer}' has out width {width}, but this hypernetwork "
                f"knows {sorted(self.inputs)}; give one trained for this base model"
            )
        return self.inputs[width]


def load_hypernet(path: str | Path) -> Hypernet:
    """Read lorarar's safetensors or the published `hypernet.pth`, without running its code.

    Raises LorararError if the file is missing, damaged or holds no hypernetwork.
    """
    path = Path(path)
    is_pickle = path.suffix in (".pth", ".pt")
    tensors, metadata = (_read_pth(path), {}) if is_pickle else read_safetensors(path)
    try:
        weights = {name: tensor.float() for name, tensor in tensors.items()}
        inputs = {
            weight.shape[1] // 2: (weight, weights[name.replace("weight", "bias")])
            for name, weight in weights.items()
            if name.startswith("input_") and name.endswith(".weight")
        }
        hypernet = Hypernet(inputs, (weights["output.1.weight"], weights["output.1.bias"]))
    except (KeyError, AttributeError, IndexError) as error:
        raise LorararError(
            f"{path}: no hypernetwork (tensor {error} missing); give a LoRA.rar checkpoint"
        ) from error
    _check(hypernet, path)
    predicts = tuple(json.loads(metadata.get("predicts", json.dumps(PUBLISHED_PROJECTIONS))))
    return replace(hypernet, predicts=predicts, source=str(path))


def save_hypernet(hypernet: Hypernet, path: str | Path, force: bool = False) -> None:
    """Write safetensors with the published tensor names and the configuration as metadata."""
    tensors = {"output.1.weight": hypernet.output[0], "output.1.bias": hypernet.output[1]}
    for index, width in enumerate(sorted(hypernet.inputs), start=1):
        tensors[f"input_{index}.weight"], tensors[f"input_{index}.bias"] = hypernet.inputs[width]
    metadata = {"format": "lorarar.hypernet.1", "predicts": json.dumps(hypernet.predicts)}
    write_safetensors(Path(path), tensors, metadata, force)


def _read_pth(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise LorararError(f"{path}: does not exist; name a hypernetwork checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LorararError(f"{path}: not a plain weights file ({reason}); get it again") from error


def _check(hypernet: Hypernet, path: Path) -> None:
    weight, bias = hypernet.output
    hidden = weight.shape[-1]
    fits = weight.shape == (2, hidden) and bias.shape == (2,) and bool(hypernet.inputs)
    for width, (rows, offset) in hypernet.inputs.items():
        fits = fits and rows.shape == (hidden, 2 * width) and offset.shape == (hidden,)
        fits = fits and bool(rows.isfinite().all() and offset.isfinite().all())
    if not (fits and weight.isfinite().all() and bias.isfinite().all()):
        raise LorararError(f"{path}: weights of mismatched shapes or NaN; get the file again")

"""One UNet, many LoRAs at once: each has rows of the batch of its own, a lane."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from lorarar.mini2.machine import DEVICE


class Factors(NamedTuple):
    """One projection's LoRAs, side by side: up (lanes, out, rank), down (lanes, rank, in)."""

    up: Tensor
    down: Tensor


Loras = dict[str, Factors]


class LaneLinear(nn.Module):
    """W x, plus up (down x) of each row's lane. Rows of one lane lie together, equally many."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.factors: Factors | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(rows, ..., in) -> (rows, ..., out); without factors what the layer alone gives."""
        plain = self.linear(x)
        if self.factors is None:
            return plain
        up, down = self.factors
        rows = x.reshape(len(up), -1, x.shape[-1])
        added = torch.bmm(torch.bmm(rows, down.mT.to(x.dtype)), up.mT.to(x.dtype))
        return plain + added.view_as(plain)


class Lanes:
    """The attention projections of a UNet, by name, made ready to carry LoRAs."""

    def __init__(self, unet: Any) -> None:
        unet.requires_grad_(False)
        self.layers: dict[str, LaneLinear] = {}
        ends = ("to_q", "to_k", "to_v", "to_out.0")
        for name in [n for n, m in unet.named_modules() if isinstance(m, nn.Linear)]:
            if name.endswith(ends):
                parent, _, child = name.rpartition(".")
                layer = LaneLinear(unet.get_submodule(name))
                setattr(unet.get_submodule(parent), child, layer)
                self.layers[f"unet.{name}"] = layer

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Each projection's (out, in)."""
        return {
            name: (layer.linear.out_features, layer.linear.in_features)
            for name, layer in self.layers.items()
        }

    def carry(self, loras: Mapping[str, Factors] | None) -> None:
        """Put LoRAs in, or take them out."""
        for name, layer in self.layers.items():
            layer.factors = None if loras is None else loras[name]


def take(loras: Loras, lanes: Sequence[int]) -> Loras:
    """Only these lanes, in this order."""
    at = torch.tensor(lanes, device=DEVICE)
    return {name: Factors(f.up[at], f.down[at]) for name, f in loras.items()}


def beside(first: Loras, second: Loras) -> Loras:
    """Two LoRAs in each lane, added: ranks side by side."""
    return {
        name: Factors(
            torch.cat([f.up, second[name].up], 2), torch.cat([f.down, second[name].down], 1)
        )
        for name, f in first.items()
    }


def together(parts: Sequence[Loras]) -> Loras:
    """All lanes of all parts, one after another; ranks must agree."""
    return {
        name: Factors(
            torch.cat([part[name].up for part in parts]),
            torch.cat([part[name].down for part in parts]),
        )
        for name in parts[0]
    }


def save_loras(loras: Loras, names: Sequence[str], path: Any) -> None:
    """Write all lanes into one file, float16, as 'NAME/LAYER.up' (out, rank) and '.down'."""
    tensors = {
        f"{name}/{layer}.{part}": np.ascontiguousarray(
            getattr(factors, part)[lane].detach().half().cpu().numpy()
        )
        for lane, name in enumerate(names)
        for layer, factors in loras.items()
        for part in Factors._fields
    }
    save_file(tensors, path)


def load_loras(path: Any, names: Sequence[str] | None = None) -> tuple[Loras, list[str]]:
    """Read what `save_loras` wrote, or only these lanes, as float32 on the device."""
    tensors = load_file(path)
    listed = list(names or dict.fromkeys(key.split("/")[0] for key in tensors))
    first = f"{listed[0]}/"
    layers = dict.fromkeys(
        key.removeprefix(first).rpartition(".")[0] for key in tensors if key.startswith(first)
    )

    def stack(layer: str, part: str) -> Tensor:
        each = [tensors[f"{name}/{layer}.{part}"].astype(np.float32) for name in listed]
        return torch.from_numpy(np.stack(each)).to(DEVICE)

    return {name: Factors(stack(name, "up"), stack(name, "down")) for name in layers}, listed

"""The hypernetwork as a trainable torch module, and the best of it so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lorarar.bases import Shape
from lorarar.diffusion.two_loras import Pair
from lorarar.hypernet import Hypernet
from lorarar.training.recipes import HypernetRecipe


class TorchHypernet(nn.Module):
    """`lorarar.hypernet.Hypernet`, trainable; starts at the direct sum, m = 1.

    shapes: of the layers it predicts, (out, in).
    """

    def __init__(self, shapes: Mapping[str, Shape], recipe: HypernetRecipe) -> None:
        super().__init__()
        self.predicts = recipe.predicts
        widths = sorted({out for out, _ in shapes.values()})
        self.inputs = nn.ModuleDict({str(w): nn.Linear(2 * w, recipe.hidden) for w in widths})
        self.output = nn.Linear(recipe.hidden, 2)
        nn.init.zeros_(self.output.weight)
        nn.init.ones_(self.output.bias)
        self.layers = list(shapes) if recipe.offsets else []
        self.offsets = nn.ParameterList(
            torch.zeros(2, columns) for _, columns in shapes.values() if recipe.offsets
        )

    def forward(self, pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
        """Map each layer's pair to its coefficients (2, in), in factored form."""
        offsets = dict(zip(self.layers, self.offsets, strict=True))
        return {name: self._predict(pair) + offsets.get(name, 0) for name, pair in pairs.items()}

    def _predict(self, pair: Pair) -> Tensor:
        width = len(pair.content[0])
        linear = self._linears()[width]
        content, style = _features(linear, pair)
        hidden = torch.relu(content + style + linear.bias[:, None])
        return self.output.weight @ hidden + self.output.bias[:, None]

    def _linears(self) -> dict[int, nn.Linear]:
        """The inputs' layers by width: a ModuleDict knows modules only."""
        return {int(width): cast(nn.Linear, each) for width, each in self.inputs.items()}

    @torch.no_grad()
    def scale_inputs(self, pairs: Mapping[str, Pair]) -> None:
        """Scale the input weights so that hidden features of `pairs` have a deviation of 1.

        Columns of dW are small and their size depends on how the LoRAs were trained.
        """
        for width, linear in self._linears().items():
            fitting = (pair for pair in pairs.values() if len(pair.content[0]) == width)
            features = [half.flatten() for pair in fitting for half in _features(linear, pair)]
            linear.weight.div_(torch.cat(features).std())

    def frozen(self) -> Hypernet:
        """Return it as it is now, in numpy."""
        inputs = {width: _arrays(linear) for width, linear in self._linears().items()}
        offsets = [offset.detach().cpu().numpy() for offset in self.offsets]
        named = dict(zip(self.layers, offsets, strict=True))
        return Hypernet(inputs, _arrays(self.output), self.predicts, offsets=named)


@dataclass
class Best:
    """The weights that validated best so far; a part of the training's state."""

    loss: float = float("inf")
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, loss: float, module: nn.Module) -> None:
        """Take the module's weights if their loss is the lowest yet."""
        if loss < self.loss:
            self.loss = loss
            self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.__dict__.update(state)


def _features(linear: nn.Linear, pair: Pair) -> list[Tensor]:
    """Each LoRA's share of the hidden features, W_half up down: (hidden, in)."""
    halves = linear.weight.split(len(pair.content[0]), 1)
    return [(half @ up) @ down for half, (up, down) in zip(halves, pair, strict=True)]


def _arrays(linear: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = (p.detach().cpu().numpy() for p in (linear.weight, linear.bias))
    return weight, bias

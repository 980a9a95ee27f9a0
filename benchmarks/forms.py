"""The merge in its published, dense form, and what each form costs by count."""

from dataclasses import dataclass

import numpy as np
import torch

from lorarar.hypernet import Hypernet
from lorarar.lora import Lora


@dataclass(frozen=True)
class Cost:
    """Floating-point operations, and bytes read and written at least once, for one merge."""

    gflop: float
    gigabytes: float


def dense_coefficients(
    content: Lora, style: Lora, hypernet: Hypernet, threads: int
) -> list[torch.Tensor]:
    """Predict m as the published implementation does: every dW, then dense columns through H.

    dW is built for all layers of both LoRAs, in torch; H reads the columns of the predicted ones.
    """
    torch.set_num_threads(threads)
    w2, b2 = (torch.from_numpy(tensor) for tensor in hypernet.output)
    inputs = {
        width: tuple(torch.from_numpy(tensor) for tensor in tensors)
        for width, tensors in hypernet.inputs.items()
    }
    results = []
    with torch.inference_mode():
        for name in content.layers:
            columns = torch.cat([_dense(lora, name) for lora in (content, style)])
            if hypernet.predicted(name):
                weight, bias = inputs[columns.shape[0] // 2]
                hidden = torch.relu(weight @ columns + bias[:, None])
                results.append(w2 @ hidden + b2[:, None])
    return results


def _dense(lora: Lora, name: str) -> torch.Tensor:
    layer = lora.layers[name]
    up, down = (torch.from_numpy(np.asarray(factor)).float() for factor in layer[:2])
    return layer.scale * (up @ down)


def cost(form: str, content: Lora, style: Lora, *, hypernet: Hypernet, itemsize: int) -> Cost:
    """Count one merge's work; itemsize: bytes per element of the factors or kept features."""
    flop = moved = 0.0
    hidden = hypernet.hidden
    for name, layer in content.layers.items():
        out, width = layer.shape
        rank = layer.rank + style.layers[name].rank
        predicted = hypernet.predicted(name)
        if form == "dense":
            flop += 2 * out * width * rank
            moved += itemsize * rank * (out + width) + 4 * 2 * out * width
        if not predicted:
            continue
        flop += 2 * 2 * hidden * width + 2 * hidden * width  # the output layer, sum and ReLU
        moved += 4 * 2 * width
        if form == "dense":
            flop += 2 * hidden * 2 * out * width
            moved += 4 * 2 * out * width
        elif form == "factored":
            flop += 2 * hidden * rank * (out + width)
            moved += itemsize * rank * (out + width)
        elif form == "small":
            flop += 2 * hidden * rank * width
            moved += itemsize * rank * (hidden + width)
        else:
            moved += itemsize * 2 * hidden * width
    return Cost(flop / 1e9, moved / 1e9)

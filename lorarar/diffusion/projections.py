"""The projections of a UNet that carry LoRAs, the Linear layers of its attention, and what a LoRA
adds to one."""

from typing import Any

from torch import Tensor, nn

from lorarar.bases import Shape


def attention_projections(unet: Any) -> dict[str, Shape]:
    """Map a diffusers UNet's attention projections, without "unet.", to their shapes (out, in).

    Of an SDXL-class UNet these are `lorarar.bases.attention_shapes`, in the UNet's own order.
    """
    return {
        name: (module.out_features, module.in_features)
        for name, module in unet.named_modules()
        if ".attn" in name and isinstance(module, nn.Linear)
    }


def added_by_lora(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return up @ (down @ x) of inputs x, (..., in), as (..., out), in the dtype of x.

    down: (rank, in); up: (out, rank).
    """
    down, up = (factor.to(x.dtype).transpose(0, 1) for factor in (down, up))
    return x @ down @ up

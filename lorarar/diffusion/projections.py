"""The projections of a UNet that carry LoRAs: the Linear layers of its attention."""

from typing import Any

from torch import nn

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

"""Where LoRAs sit in a UNet: its attention projections."""

from torch import nn

from lorarar.bases import Shape


def attention_projections(unet: nn.Module) -> dict[str, Shape]:
    """Map each attention projection's diffusers name to its weight's shape (out, in)."""
    return {
        name: (module.out_features, module.in_features)
        for name, module in unet.named_modules()
        if ".attn" in name and isinstance(module, nn.Linear)
    }

"""Stand-in pipelines: random weights in a base's true architecture, wide or narrow."""

from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel

from lorarar.bases import Base, unet_config
from lorarar.diffusion.assemble import assemble, make_text_encoders, train_tokenizer


def standin_unet(
    base: Base, dtype: torch.dtype, side: int = 128, device: torch.device | str = "cpu"
) -> Any:
    """Build the base's UNet (diffusers `UNet2DConditionModel`); side: of its latents."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=side, **unet_config(base))
    unet = unet.to(dtype).to_empty(device=device).requires_grad_(False)
    torch.manual_seed(0)
    for name, weight in unet.named_parameters():
        if name.endswith("bias"):
            weight.zero_()
        elif weight.ndim == 1:
            weight.fill_(1)
        else:
            weight.normal_(0, weight[0].numel() ** -0.5)
    return unet


def standin_pipeline(
    base: Base, dtype: torch.dtype, side: int = 128, device: torch.device | str = "cpu"
) -> StableDiffusionXLPipeline:
    """Build a pipeline with this UNet, shallow text encoders of the right widths and a small VAE.

    side: of the UNet's latents, an eighth of the picture's. device: the UNet's.
    """
    return standin_rest(base, standin_unet(base, dtype, side, device), dtype, side)


def standin_rest(base: Base, unet: Any, dtype: torch.dtype, side: int) -> StableDiffusionXLPipeline:
    """Build the same around a given UNet."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([])
    widths = base.cross_attention - base.pooled, base.pooled
    first, second = (part.to(dtype) for part in make_text_encoders(tokenizer, widths))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        latent_channels=4,
        sample_size=8 * side,
    ).to(dtype)
    return assemble(tokenizer, (first, second), unet, vae)

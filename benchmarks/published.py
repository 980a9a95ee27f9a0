"""Configuration values as SDXL-class models are published with: facts, but for the weights.

Of each model what differs from SDXL base 1.0 is said; null values and library defaults that older
files leave out are left out here, too.
"""

from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]

UNET: Config = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.19.0.dev0",
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_dim": 2048,
    "cross_attention_norm": None,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "sample_size": 128,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "upcast_attention": None,
    "use_linear_projection": True,
}
VAE: Config = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.20.0.dev0",
    "_name_or_path": "../sdxl-vae/",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
FP16_FIX: Config = VAE | {"force_upcast": False, "latents_mean": None, "latents_std": None}
PLAYGROUND_VAE: Config = VAE | {
    "latents_mean": [-1.6574, 1.886, -1.383, 2.5155],
    "latents_std": [8.4927, 5.9022, 6.5498, 5.2299],
    "scaling_factor": 0.5,
}
TAESD: Config = {
    "_class_name": "AutoencoderTiny",
    "_diffusers_version": "0.20.0.dev0",
    "act_fn": "relu",
    "decoder_block_out_channels": [64, 64, 64, 64],
    "encoder_block_out_channels": [64, 64, 64, 64],
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3],
    "out_channels": 3,
    "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}
TEXT_ENCODER: Config = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float16",
    "transformers_version": "4.32.0.dev0",
    "vocab_size": 49408,
}
TEXT_ENCODER_2: Config = TEXT_ENCODER | {
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
EULER: Config = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
ANCESTRAL: Config = EULER | {"_class_name": "EulerAncestralDiscreteScheduler"}
LCM: Config = EULER | {
    "_class_name": "LCMScheduler",
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "original_inference_steps": 50,
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "thresholding": False,
    "timestep_scaling": 10.0,
}
EDM_DPM: Config = {
    "_class_name": "EDMDPMSolverMultistepScheduler",
    "_diffusers_version": "0.27.0.dev0",
    "algorithm_type": "dpmsolver++",
    "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "sample_max_value": 1.0,
    "sigma_data": 0.5,
    "sigma_max": 80.0,
    "sigma_min": 0.002,
    "solver_order": 2,
    "solver_type": "midpoint",
    "thresholding": False,
}
EDM_EULER: Config = {
    "_class_name": "EDMEulerScheduler",
    "_diffusers_version": "0.28.0.dev0",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rho": 7.0,
    "sigma_data": 1.0,
    "sigma_max": 120.0,
    "sigma_min": 0.002,
    "sigma_schedule": "exponential",
}
INDEX: Config = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.19.0.dev0",
    "force_zeros_for_empty_prompt": True,
    "add_watermarker": None,
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A model: what its files say otherwise than SDXL base 1.0's. single_file: it is published in
    the original layout, with these tensors of other names besides."""

    name: str
    unet: Config = field(default_factory=dict)
    vae: Config = field(default_factory=lambda: VAE)
    scheduler: Config = field(default_factory=lambda: EULER)
    index: Config = field(default_factory=dict)
    single_file: tuple[str, ...] | None = None


V_PREDICTION: Config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
SSD_1B: Config = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA: Config = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
}
KOALA_1B: Config = {"layers_per_block": 1, "transformer_layers_per_block": [1, 2, 6]}
KOALA_700M: Config = {
    "layers_per_block": 1,
    "mid_block_type": None,
    "transformer_layers_per_block": [1, 2, 5],
}
REFINER: Config = {
    "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "down_block_types": [
        "DownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ],
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
NO_FIRST_ENCODER: Config = {
    "_class_name": "StableDiffusionXLImg2ImgPipeline",
    "requires_aesthetics_score": True,
    "force_zeros_for_empty_prompt": False,
    "text_encoder": [None, None],
    "tokenizer": [None, None],
}
MODELS = (
    Published(name="SDXL base 1.0"),
    Published(
        name="SDXL Turbo",
        unet={"sample_size": 64},
        scheduler=ANCESTRAL | {"timestep_spacing": "trailing"},
    ),
    Published(name="SDXL-Lightning", scheduler=EULER | {"timestep_spacing": "trailing"}),
    Published(name="LCM-SDXL", unet={"time_cond_proj_dim": 256}, scheduler=LCM),
    Published(name="Hyper-SDXL (one step)", scheduler=LCM),
    Published(
        name="Hyper-SDXL (DDIM)",
        scheduler=EULER | {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"},
    ),
    Published(name="Playground v2.5", vae=PLAYGROUND_VAE, scheduler=EDM_DPM),
    Published(name="Pony Diffusion V6 XL", single_file=()),
    Published(name="Illustrious XL", single_file=()),
    Published(name="NoobAI-XL v-pred", scheduler=EULER | V_PREDICTION),
    Published(
        name="NoobAI-XL v-pred, one file",
        scheduler=EULER | V_PREDICTION,
        single_file=("v_pred", "ztsnr"),
    ),
    Published(name="Animagine XL 3.1", scheduler=ANCESTRAL),
    Published(
        name="RealVisXL, DPM++ 2M Karras",
        scheduler=EULER | {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True},
    ),
    Published(name="Juggernaut XL, one file", single_file=()),
    Published(name="SSD-1B", unet=SSD_1B),
    Published(name="Segmind-Vega", unet=VEGA),
    Published(name="KOALA-1B", unet=KOALA_1B),
    Published(name="KOALA-700M", unet=KOALA_700M),
    Published(
        name="KOALA-Lightning-700M",
        unet=KOALA_700M,
        scheduler=EULER | {"timestep_spacing": "trailing"},
    ),
    Published(name="SDXL with the fp16-fix VAE", vae=FP16_FIX),
    Published(name="SDXL with TAESD", vae=TAESD),
    Published(name="SDXL inpainting 0.1", unet={"in_channels": 9}),
    Published(name="SDXL refiner 1.0", unet=REFINER, index=NO_FIRST_ENCODER),
    Published(name="CosXL", scheduler=EDM_EULER),
    Published(name="CosXL, one file", single_file=("edm_vpred.sigma_max", "edm_vpred.sigma_min")),
)

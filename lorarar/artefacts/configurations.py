"""Which values of a model's configuration are honoured: one table for drawing, exporting, training.

Drawing and training run diffusers' own modules; an export is traced or cut into stages, and takes
what the runtimes can give it. A key that is in no table must have its library's default, since
what it changes would be changed without a word.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lorarar.errors import LorararError

Use = Literal["draw", "export", "train"]
Config = Mapping[str, Any]
DOING: dict[Use, str] = {"draw": "drawing", "export": "exporting", "train": "training"}


@dataclass(frozen=True)
class Rule:
    """The values of a key that are honoured; said: in words, for people."""

    said: str
    allows: Callable[[Any], bool]


class Row(NamedTuple):
    """What each use honours of a key."""

    draw: Rule
    export: Rule
    train: Rule


def only(*values: Any) -> Rule:
    """Allow these values; 1 is not true here."""
    written = [json.dumps(value) for value in values]
    return Rule(" or ".join(written), lambda value: json.dumps(value) in written)


def each_of(*names: str) -> Rule:
    """Allow lists of these names."""
    return Rule(
        f"a list of {', '.join(names)}",
        lambda value: isinstance(value, list) and set(map(str, value)) <= set(names),
    )


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_number, value))


ANY = Rule("any", lambda value: True)
COUNT = Rule(
    "a whole number above 0", lambda value: is_number(value) and value > 0 and value % 1 == 0
)
POSITIVE = Rule("a number above 0", lambda value: is_number(value) and value > 0)
NO_OR_COUNT = Rule("null or a whole number", lambda value: value is None or COUNT.allows(value))
NO_OR_NUMBERS = Rule(
    "null or a list of numbers", lambda value: value is None or _is_list_of_numbers(value)
)
NO_SHIFT = Rule("null or 0", lambda value: value is None or (is_number(value) and value == 0))
NOTHING = only(None)
OFF = only(False, None)
NO_DROPOUT = Rule("0", lambda value: is_number(value) and value == 0)


def rows(
    keys: str, draw: Rule, *, export: Rule | None = None, train: Rule | None = None
) -> dict[str, Row]:
    """Give some keys one row; what exporting and training honour is what drawing does, if not
    said otherwise."""
    return dict.fromkeys(keys.split(), Row(draw, export or draw, train or draw))


UNET = {
    **rows(
        "act_fn addition_time_embed_dim attention_head_dim block_out_channels conv_in_kernel "
        "conv_out_kernel cross_attention_dim downsample_padding flip_sin_to_cos freq_shift "
        "in_channels layers_per_block mid_block_scale_factor norm_eps out_channels "
        "projection_class_embeddings_input_dim resnet_out_scale_factor resnet_skip_time_act "
        "reverse_transformer_layers_per_block time_embedding_dim timestep_post_act "
        "transformer_layers_per_block upcast_attention use_linear_projection",
        ANY,
    ),
    **rows("sample_size", COUNT),
    **rows("norm_num_groups", ANY, export=COUNT),
    **rows("down_block_types", ANY, export=each_of("DownBlock2D", "CrossAttnDownBlock2D")),
    **rows("up_block_types", ANY, export=each_of("UpBlock2D", "CrossAttnUpBlock2D")),
    **rows("mid_block_type", ANY, export=only(None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn")),
    **rows("resnet_time_scale_shift", ANY, export=only("default", "scale_shift")),
    **rows("time_embedding_type", ANY, export=only("positional")),
    **rows("center_input_sample dual_cross_attention only_cross_attention", ANY, export=OFF),
    **rows("mid_block_only_cross_attention", ANY, export=OFF),
    **rows("cross_attention_norm time_embedding_act_fn", ANY, export=NOTHING),
    **rows("time_cond_proj_dim", NO_OR_COUNT, train=NOTHING),
    **rows("dropout", ANY, train=NO_DROPOUT),
    **rows("addition_embed_type", only("text_time")),
    **rows("attention_type", only("default")),
    **rows("class_embeddings_concat", OFF),
    **rows(
        "class_embed_type encoder_hid_dim encoder_hid_dim_type num_attention_heads "
        "num_class_embeds",
        NOTHING,
    ),
}
AUTOENCODER_KL = {
    **rows(
        "act_fn block_out_channels down_block_types latent_channels layers_per_block "
        "mid_block_add_attention norm_num_groups up_block_types use_post_quant_conv "
        "use_quant_conv",
        ANY,
    ),
    **rows("in_channels out_channels", only(3)),
    **rows("scaling_factor", POSITIVE),
    **rows("shift_factor", NO_SHIFT),
    **rows("latents_mean latents_std", NO_OR_NUMBERS),
}
AUTOENCODER_TINY = {
    **rows(
        "act_fn block_out_channels decoder_block_out_channels encoder_block_out_channels "
        "latent_channels num_decoder_blocks num_encoder_blocks",
        ANY,
    ),
    **rows("upsample_fn", ANY, export=only("nearest")),
    **rows("upsampling_scaling_factor", only(2)),
    **rows("in_channels out_channels", only(3)),
    **rows("scaling_factor", POSITIVE),
    **rows("shift_factor", NO_SHIFT),
}
TEXT_ENCODER = {
    **rows(
        "eos_token_id hidden_act hidden_size intermediate_size layer_norm_eps "
        "max_position_embeddings num_attention_heads num_hidden_layers projection_dim vocab_size",
        ANY,
    ),
    **rows("attention_dropout", ANY, train=NO_DROPOUT),
}
PIPELINE = {
    **rows("force_zeros_for_empty_prompt", only(True, False)),
    **rows("is_cosxl_edit requires_aesthetics_score", OFF),
}
TABLES = {
    "UNet2DConditionModel": UNET,
    "AutoencoderKL": AUTOENCODER_KL,
    "AutoencoderTiny": AUTOENCODER_TINY,
    "CLIPTextModel": TEXT_ENCODER,
    "CLIPTextModelWithProjection": TEXT_ENCODER,
    "StableDiffusionXLPipeline": PIPELINE,
}
# Keys that change no picture here: what is stored or was done to make the model; the VAE runs in
# float32 and untiled; what takes part only where a picture is given; no watermark is ever drawn.
NEEDLESS = {
    "UNet2DConditionModel": {"addition_embed_type_num_heads"},
    "AutoencoderKL": {"force_upcast", "sample_size"},
    "AutoencoderTiny": {"force_upcast", "latent_magnitude", "latent_shift"},
    "StableDiffusionXLPipeline": {"add_watermarker", "feature_extractor", "image_encoder"},
    "CLIPTextModel": {
        "architectures",
        "bos_token_id",
        "dropout",
        "dtype",
        "id2label",
        "initializer_factor",
        "initializer_range",
        "label2id",
        "model_type",
        "pad_token_id",
        "torch_dtype",
        "transformers_version",
    },
}
NEEDLESS["CLIPTextModelWithProjection"] = NEEDLESS["CLIPTextModel"]
PIPELINES = (  # whose parts draw from text alone, too
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
)
PARTS = {  # of a pipeline -> the classes that it may be of
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
REMEDIES = {
    "requires_aesthetics_score": "a refiner draws on another model's picture; give the base model",
    "time_cond_proj_dim": "train on the model that it was distilled from",
}


def check_keys(kind: str, config: Config, use: Use, defaults: Config, source: Path) -> None:
    """Raise LorararError for the first key with a value that `use` does not honour.

    kind: a class of TABLES; defaults: its library's, for keys unknown here; source: the file.
    """
    for key, value in (dict(defaults) | dict(config)).items():
        if key.startswith("_") or key in NEEDLESS[kind]:
            continue
        written = json.dumps(value)
        row = TABLES[kind].get(key)
        if row is None:
            if key not in defaults or written != json.dumps(defaults[key]):
                raise LorararError(
                    f"{source}: '{key}' {written} is unknown to this version; "
                    "use a model without it, or a newer lorarar"
                )
            continue
        rule, given = getattr(row, use), json.loads(written)  # a default may be a tuple
        if not rule.allows(given):
            other = "use a model without it"
            if row.draw.allows(given):
                other = "draw with it by lorarar generate --model"
            raise LorararError(
                f"{source}: '{key}' {written} is not honoured in {DOING[use]}, "
                f"only {rule.said}; {REMEDIES.get(key, other)}"
            )


def check_index(index: Config, use: Use, source: Path) -> dict[str, str]:
    """Return each part's class, of a model_index.json's content, but for the scheduler's.

    Raises LorararError for another pipeline's index, and for parts or keys that are not honoured.
    """
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise LorararError(f"{source}: is a {kind}; give an SDXL-class model")
    classes = {}
    for part, fitting in PARTS.items():
        named = index.get(part)
        found = named[1] if isinstance(named, list) and len(named) == 2 else None
        if found not in fitting:
            said = f"is a {found}" if found else "is missing"
            raise LorararError(
                f"{source}: its {part} {said}, but must be a {' or '.join(fitting)}; "
                "give an SDXL-class model"
            )
        classes[part] = found
    rest = {key: value for key, value in index.items() if key not in {*PARTS, "scheduler"}}
    check_keys("StableDiffusionXLPipeline", rest, use, {}, source)
    return classes


def check_together(configs: Mapping[str, Config], folder: Path) -> None:
    """Raise LorararError unless the parts fit each other; configs: with defaults filled in."""
    unet, vae = configs["unet"], configs["vae"]
    first, second = configs["text_encoder"], configs["text_encoder_2"]
    channels = {
        "unet's in_channels": unet["in_channels"],
        "unet's out_channels": unet["out_channels"],
        "vae's latent_channels": vae["latent_channels"],
    }
    words = {
        "unet's cross_attention_dim": unet["cross_attention_dim"],
        "text encoders' hidden_size together": first["hidden_size"] + second["hidden_size"],
    }
    pooled = {
        "unet's projection_class_embeddings_input_dim": (
            unet["projection_class_embeddings_input_dim"]
        ),
        "six sizes' and text_encoder_2's projection_dim": (
            6 * (unet["addition_time_embed_dim"] or 0) + second["projection_dim"]
        ),
    }
    tokens = {
        "text_encoder's max_position_embeddings": first["max_position_embeddings"],
        "text_encoder_2's": second["max_position_embeddings"],
    }
    for widths in (channels, words, pooled, tokens):
        if len(set(map(json.dumps, widths.values()))) > 1:
            found = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise LorararError(
                f"{folder}: {found}: must be equal; give an SDXL-class model that draws from text"
            )
    check_latents(vae, folder)


def check_latents(vae: Config, folder: Path) -> None:
    """Raise LorararError unless a VAE's latents_mean and latents_std are both null, or fit it."""
    mean, deviation = vae.get("latents_mean"), vae.get("latents_std")
    if mean is None and deviation is None:
        return
    count = vae["latent_channels"]
    fits = mean and deviation and len(mean) == len(deviation) == count and min(deviation) > 0
    if not fits:
        raise LorararError(
            f"{folder}: its vae's latents_mean {mean} and latents_std {deviation} must both be "
            f"null, or {count} numbers, deviations above 0; get the model again"
        )

"""LoRAs as people's tools write them: every naming, dtype, form of alpha and kind of layer."""

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorarar import load_lora, merge, save_lora
from lorarar.bases import BASES, layer_shapes
from lorarar.files import write_safetensors
from lorarar.lora_names import sgm_name

DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F64": np.float64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
ENDINGS = {
    "peft": ("lora_A.weight", "lora_B.weight"),
    "peft, an adapter's name": ("lora_A.dog.weight", "lora_B.dog.weight"),
    "peft, default_0": ("lora_A.default_0.weight", "lora_B.default_0.weight"),
    "bare": ("lora_A", "lora_B"),
    "dotted kohya": ("lora_down.weight", "lora_up.weight"),
    "old diffusers": ("lora.down.weight", "lora.up.weight"),
    "older diffusers": ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
}
WRAPPERS = {
    "": "{0}.{1}",
    "twice": "{0}.{0}.{1}",
    "peft inside": "{0}.base_model.model.{1}",
    "peft outside": "base_model.model.{0}.{1}",
    "peft alone": "base_model.model.{1}",
    "nothing": "{1}",
    "DDP": "module.{0}.{1}",
    "compiled": "_orig_mod.{0}.{1}",
}
COMFY = {
    "unet": "diffusion_model.{}",
    "text_encoder": "text_encoders.clip_l.transformer.{}",
    "text_encoder_2": "text_encoders.clip_g.transformer.{}",
}
OMI = {"unet": "unet.{}", "text_encoder": "clip_l.{}", "text_encoder_2": "clip_g.{}"}
FLAT = {"unet": "lora_unet_{}", "text_encoder": "lora_te1_{}", "text_encoder_2": "lora_te2_{}"}
LYCORIS = {
    "unet": "lycoris_{}",
    "text_encoder": "lycoris_text_encoder_{}",
    "text_encoder_2": "lycoris_text_encoder_2_{}",
}


def dotted(wrapper, ending):
    def name(layer, base):
        component, _, module = layer.partition(".")
        return [f"{WRAPPERS[wrapper].format(component, module)}.{part}" for part in ENDINGS[ending]]

    return name


def flat(prefixes, ending, is_sgm):
    def name(layer, base):
        component, _, module = layer.partition(".")
        if is_sgm and component == "unet":
            module = sgm_name(module, base.layers_per_block)
        module = prefixes[component].format(module).replace(".", "_")
        return [f"{module}.{part}" for part in ENDINGS[ending]]

    return name


def comfy(layer, base):
    component, _, module = layer.partition(".")
    is_unet = component == "unet"
    module = sgm_name(module, base.layers_per_block) if is_unet else module
    return [f"{COMFY[component].format(module)}.{part}" for part in ENDINGS["dotted kohya"]]


def omi(layer, base):
    component, _, module = layer.partition(".")
    return [f"{OMI[component].format(module)}.{part}" for part in ENDINGS["dotted kohya"]]


def processor(layer, base):
    """diffusers' first names, of attention processors."""
    head, _, last = layer.replace(".to_out.0", ".to_out").rpartition(".")
    is_attention = ".attn" in layer
    module = f"{head}.processor.{last}_lora" if is_attention else f"{head}.{last}.lora"
    return [f"{module}.down.weight", f"{module}.up.weight"]


NAMINGS = {
    **{f"{w} {e}": dotted(w, e) for w in WRAPPERS for e in ENDINGS},
    "kohya": flat(FLAT, "dotted kohya", True),
    "kohya, diffusers blocks": flat(FLAT, "dotted kohya", False),
    "kohya, lora_A": flat(FLAT, "peft", False),
    "lycoris": flat(LYCORIS, "dotted kohya", False),
    "comfy": comfy,
    "omi": omi,
    "processor": processor,
}
ALPHAS = {
    "none": lambda alpha: None,
    "scalar": lambda alpha: np.array(alpha, np.float32),
    "of one": lambda alpha: np.array([alpha], np.float16),
    "of several": lambda alpha: np.full(4, alpha, np.float32),
    "bfloat16": lambda alpha: np.array(alpha, ml_dtypes.bfloat16),
    "float8": lambda alpha: np.array(alpha, ml_dtypes.float8_e4m3fn),
    "int": lambda alpha: np.array(alpha, np.int64),
    "double": lambda alpha: np.array(alpha, np.float64),
}
KINDS = ("attn1.to_q", "attn2.to_out.0", "ff.net.0.proj", "proj_in", "conv1", "time_emb_proj",
         "conv_shortcut", "samplers.0.conv", "conv_in", "conv_out", "add_embedding.linear_1",
         "self_attn.q_proj", "self_attn.out_proj", "mlp.fc2", "text_projection")  # fmt: skip
HELPED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def layer_of(kind: str, base: str, index: int) -> str:
    fitting = [name for name in layer_shapes(BASES[base]) if name.endswith(kind)]
    return fitting[index % len(fitting)]


def factors(shape, rank, dtypes, generator, as_convolution=False):
    """down, up of a weight of this shape, float64 but representable."""
    out, width, *kernel = shape
    ones = [1] * len(kernel) or [1, 1] * as_convolution
    down = generator.standard_normal((rank, width, *kernel, *(ones if not kernel else []))) * 0.25
    up = generator.standard_normal((out, rank, *ones)) * 0.25
    return down.astype(dtypes[0]), up.astype(dtypes[1])


def applied(up, down, scale: float, shape) -> np.ndarray:
    """dW @ x in float64, of a few vectors x: as telling as dW, and quick."""
    up, down = (np.asarray(x).astype(np.float64).reshape(x.shape[0], -1) for x in (up, down))
    probe = np.random.default_rng(1).standard_normal((down.shape[1], 3))
    assert down.shape[1] == np.prod(shape[1:]) and up.shape[0] == shape[0]
    return scale * (up @ (down @ probe))


def error_of(layer, wanted: np.ndarray, shape) -> float:
    found = applied(layer.up, layer.down, layer.scale, shape)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@HELPED
@given(
    naming=st.sampled_from(sorted(NAMINGS)),
    base=st.sampled_from(sorted(BASES)),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
    dtypes=st.tuples(*[st.sampled_from(sorted(DTYPES))] * 2),
    form=st.sampled_from(sorted(ALPHAS)),
    alpha=st.sampled_from([1, 2, 8]),
    rank=st.sampled_from([1, 3, 4]),
    index=st.integers(0, 500),
    as_convolution=st.booleans(),
)
def test_every_naming_dtype_alpha_kind_and_base_is_what_its_arithmetic_says(
    tmp_path, naming, base, kinds, dtypes, form, alpha, rank, index, as_convolution
):
    generator, shapes = np.random.default_rng(index), layer_shapes(BASES[base])
    layers = {layer_of(kind, base, index) for kind in kinds}
    anchor = layer_of("attn2.to_k", base, index)  # tells the embedded base from the others
    tensors, wanted = {}, {}
    for layer in sorted(layers | {anchor}):
        shape = shapes[layer]
        down, up = factors(shape, rank, [DTYPES[d] for d in dtypes], generator, as_convolution)
        down_name, up_name = NAMINGS[naming](layer, BASES[base])
        tensors |= {down_name: down, up_name: up}
        value = ALPHAS[form](alpha)
        if value is not None:
            tensors[f"{up_name.removesuffix('.weight').rpartition('lora')[0][:-1]}.alpha"] = value
        scale = 1 if value is None else alpha / rank
        wanted[layer] = applied(up, down, scale, shape)
    path = tmp_path / "lora.safetensors"
    write_safetensors(path, tensors, {}, force=True)
    lora = load_lora(path)
    assert lora.layers.keys() == wanted.keys() and not lora.notes
    for layer, answer in wanted.items():
        assert error_of(lora.layers[layer], answer, shapes[layer]) < 1e-6
        assert lora.layers[layer].up.dtype == lora.layers[layer].down.dtype
    for layout in ("diffusers", "kohya", "peft"):
        out = tmp_path / layout
        save_lora(lora, out, layout, force=True)
        again = load_lora(out)
        assert again.layers.keys() == wanted.keys()
        merged = merge(lora, again, "direct", content_scale=0.7, style_scale=-1.3)
        bound = 5e-3 if np.asarray(lora.layers[anchor].up).dtype == ml_dtypes.bfloat16 else 5e-4
        for layer, answer in wanted.items():
            assert error_of(again.layers[layer], answer, shapes[layer]) < bound
            assert error_of(merged.layers[layer], -0.6 * answer, shapes[layer]) < 4 * bound

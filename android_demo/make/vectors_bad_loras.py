"""Files as people's tools spoil them, or that are LoRAs of another kind: one for each claim."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from lorarar.files import write_safetensors

Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
CONV = "unet.down_blocks.1.resnets.1.conv1"
SMALL = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"  # of the small world's
HEADERS = [
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9999999]}}',
    b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    b'"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}',
    b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F4","shape":[7],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F128","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":"b"}',
    b"[]",
    b"{}",
    b"",
    b"[" * 50_000,
    b'{"__metadata__":{"lora_adapter_metadata":7}}',
    b'{"__metadata__":{"a":"\\ud800"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[4,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[0' + b",1" * 64 + b'],"data_offsets":[4,4]}}',
]
SHAPES = {
    Q: [
        ((1280, 4), (3, 1280)),
        ((4, 1280), (1280, 4)),
        ((320, 4), (4, 320)),
        ((1280,), (4, 1280)),
        ((1280, 0), (0, 1280)),
        ((1280, 4, 1, 1), (4, 1280, 1, 1)),
        ((1280, 4, 1), (4, 1280)),
    ],
    CONV: [
        ((640, 2, 2, 2), (2, 1440, 1, 1)),
        ((640, 2, 3, 1), (2, 1920, 1, 1)),
        ((640, 2), (2, 1920, 3, 1)),
        ((640, 2, 1, 1), (2, 640, 3, 3)),
        ((640, 2, 3, 3), (2, 640, 1, 1)),
        ((640, 2, 3, 3), (2, 640)),
        ((640, 2), (2, 640 * 9)),
        ((640, 2), (2, 640)),
    ],
}
EXTRA = [
    *(f"{Q}.{part}" for part in ("lora_C.weight", "scaling", "base_layer.weight", "weight")),
    *(f"{Q}.{part}" for part in ("lora_B.bias", "lora_B.dog.weight", "features", "alpha.x")),
    f"{Q}.lora_magnitude_vector",
    *(f"lora_unet_x.{part}" for part in ("dora_scale", "hada_w1_a", "lokr_w1", "lora_mid.weight")),
    *(f"lora_unet_x.{part}" for part in ("oft_blocks", "diff", "diff_b", "on_input", "a1.weight")),
    *(f"lora_unet_x.{part}" for part in ("w_norm", "lora_E", "vera_lambda", "alpha", "weight\n")),
    "lora_embedding_A", "bundle_emb.dog.clip_l", "lora_te1_text_model_embeddings_position_ids",
    "犬🐶\x1b[31m\u202e\u00a0\ue000", "",
]  # fmt: skip
NAMES = [
    "transformer.single_transformer_blocks.0.attn.to_q",
    "lora_unet_double_blocks_0_img_attn_qkv",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "text_model.encoder.layers.0.self_attn.q_proj",
    "x", "", ".", "\n", f"x{Q}", f"{Q}\n", f"{Q}.", f"module.{Q}", f"unet.unet.{Q}",
]  # fmt: skip
ALPHAS: list[Any] = [
    np.nan, np.inf, [1.0, 2.0], [], True, [4.0, 4.0], 0, -2, [[3]], np.float16(6), np.uint64(2**63),
    np.complex64(1), np.int8(-3), ml_dtypes.bfloat16(3), ml_dtypes.float8_e8m0fnu(4), [0.0, -0.0],
    ml_dtypes.float8_e5m2(0.75), [np.nan, np.nan],
]  # fmt: skip
PATTERNS: list[Any] = [
    {"to_q": 1, "attn1.to_q": 2}, {"attn1.to_q": 2, "to_q": 1}, {"o_q": 3}, {"to_q": []},
    {r"attn\d\.to_[qk]": 3, "to_q": 5}, {"^mid_block.*to_q": 3}, {"^to_q": 3}, [1], [], 0,
    {"mid_block.*": 7}, {Q.removeprefix("unet."): 9}, {"(a+)+b": 1}, {".*.*.*b": 1},
    {"[": 1}, {"to_(q|k)": 2}, {"to_(?:q|k)": 2}, {"to_[^q]": 2}, {"(?:": 1}, {"a**": 1},
    {r"\bto_q": 4}, {r"\e": 4}, {"é": 2}, {"犬.*": 2}, {"(?i)TO_Q": 2}, {"": 5},
    {f"{i}.*": 1 for i in range(101)}, {"to_q$": 6}, {"x|to_q": 6}, {"*": 1},
    {"to_q{1}": 1}, {r"attn1\.to_q": 2}, {r"\$|to_q": 2}, {"[a-z_]+": 2},
]  # fmt: skip
ADAPTERS: list[Any] = [
    {}, 7, [], {"unet.lora_alpha": "many"}, {"unet.lora_alpha": None}, {"unet.lora_alpha": 1e31},
    {"unet.lora_alpha": True}, {"unet.lora_alpha": 16}, {"unet.lora_alpha": 16, "unet.r": 2},
    {"unet.lora_alpha": [1, "a'b", 0.5, {"x": None}]}, {"unet.lora_alpha": 1e-7}, {"unet.r": "犬"},
    {"unet.lora_alpha": 16, "unet.use_rslora": True}, {"unet.use_dora": 1}, {"unet.use_dora": 0},
    {"unet.peft_type": "IA3"}, {"unet.peft_type": "LOHA", "unet.alpha": 2}, {"lora_alpha": 3},
    {"text_encoder.lora_alpha": 16}, {"unet.peft_type": None}, {"unet.init_lora_weights": True},
    *({"unet.init_lora_weights": start} for start in ("pissa", "pissa_niter_4", "OLoRA", "loftq")),
    *({"unet.lora_alpha": 16, "unet.alpha_pattern": patterns} for patterns in PATTERNS),
]  # fmt: skip
ROLES = {"role": "style", "level": "small", "fingerprint": "x", "error": 0.1}
PREPARED: list[Any] = [
    7, [], ROLES, ROLES | {"error": 0}, ROLES | {"role": None}, ROLES | {"more": 1}, {},
    ROLES | {"level": "full-int8"}, ROLES | {"level": "?"},
]  # fmt: skip


def bad_files(folder: Path) -> None:
    """Write the files of every list above, and a few that no list has."""
    for index, header in enumerate(HEADERS):
        start = struct.pack("<Q", len(header))
        (folder / f"header-{index}.safetensors").write_bytes(start + header + b"\0" * 4)
        huge = struct.pack("<Q", 1 << 62)
        (folder / f"huge-{index}.safetensors").write_bytes(huge + header + b"\0" * 4)
    for layer, shapes in SHAPES.items():
        for index, (up, down) in enumerate(shapes):
            _write(folder, f"shapes-{len(layer)}-{index}", _pair(layer, up, down))
    for index, name in enumerate(EXTRA):
        _write(folder, f"extra-{index}", _pair() | {name: _numbers(2)})
        _write(folder, f"extra-alone-{index}", {name: _numbers(2, 2)})
        _write(folder, f"extra-prepared-{index}", _pair() | {name: _numbers(2)}, prepared=ROLES)
    for index, name in enumerate(NAMES):
        _write(folder, f"name-{index}", _pair(name, (320, 2), (2, 320)))
        _write(folder, f"kohya-{index}", _kohya(name))
    for index, alpha in enumerate(ALPHAS):
        _write(folder, f"alpha-{index}", _kohya() | {f"{KOHYA}.alpha": np.array(alpha)})
    for index, options in enumerate(ADAPTERS):
        _write(folder, f"adapter-{index}", _pair(), adapter=options)
    for index, about in enumerate(PREPARED):
        for width in (2, 96):
            features = {f"{SMALL}.features": _numbers(8, width)}
            tensors = _pair(SMALL, (96, 2), (2, 96)) | features
            _write(folder, f"prepared-{index}-{width}", tensors, prepared=about)
    for key in ("lora_adapter_metadata", "lorarar.prepared"):
        for index, text in enumerate(("{", "[" * 3000, "犬", "", '{"a":1}')):
            write_safetensors(
                folder / f"text-{key}-{index}.safetensors", _pair(), {key: text}, True
            )
    _write_others(folder)


def _write_others(folder: Path) -> None:
    for name, start in (("zip", b"PK\x03\x04"), ("pickle", b"\x80\x02"), ("text", b"hello, this")):
        (folder / f"{name}.safetensors").write_bytes(start + b"is no model at all")
    _write(folder, "whole", {name: x.astype(np.int8) for name, x in _pair().items()})
    _write(folder, "complex", {name: x.astype(np.complex64) for name, x in _pair().items()})
    _write(folder, "up-alone", {f"{Q}.lora_B.weight": _numbers(1280, 2)})
    _write(folder, "down-alone", {f"{Q}.lora_A.weight": _numbers(2, 1280)})
    _write(folder, "alpha-alone", {f"{Q}.alpha": _numbers(1)})
    _write(folder, "twins", _pair() | _kohya())
    _write(folder, "two-bases", _pair() | _pair(SMALL, (96, 2), (2, 96)))
    _write(folder, "empty-and-more", _pair() | _kohya("x", rank=0))
    whole = (folder / "twins.safetensors").read_bytes()
    for keep in (0, 5, 100, -1):
        (folder / f"cut-{keep}.safetensors").write_bytes(whole[:keep])
    for index, config in enumerate((b"{", b"[]", b'{"lora_alpha": 6}', b'{"use_dora": true}')):
        inside = folder / f"peft-{index}"
        inside.mkdir(exist_ok=True)
        _write(inside, "adapter_model", _pair(f"base_model.model.{Q[5:]}"))
        (inside / "adapter_config.json").write_bytes(config)
    good = _pair(SMALL, (96, 2), (2, 96))
    _write(folder, "犬🐶\x1b[31m", good | {f"{SMALL}.\u202e": _numbers(1)})


def _write(folder: Path, name: str, tensors: dict[str, np.ndarray], **about: Any) -> None:
    keys = {"adapter": "lora_adapter_metadata", "prepared": "lorarar.prepared"}
    metadata = {keys[key]: json.dumps(value) for key, value in about.items()}
    write_safetensors(folder / f"{name}.safetensors", tensors, metadata, True)


def _pair(
    name: str = Q, up: tuple[int, ...] = (1280, 2), down: tuple[int, ...] = (2, 1280)
) -> dict[str, np.ndarray]:
    return {f"{name}.lora_A.weight": _numbers(*down), f"{name}.lora_B.weight": _numbers(*up)}


def _kohya(name: str = KOHYA, rank: int = 4) -> dict[str, np.ndarray]:
    down, up = _numbers(rank, 1280), _numbers(1280, rank)
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float16)

"""Files that a fuzzer makes of its bytes: LoRAs of every convention with headers, names, dtypes,
shapes, alphas and metadata gone wrong."""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

LARGEST = 1 << 18  # bytes of a tensor; the rest of larger ones is missing
Q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SMALL = "down_blocks.1.attentions.0.transformer_blocks.0"
CONV = "down_blocks.1.resnets.1.conv1"
ENCODER = "text_model.encoder.layers.0.self_attn.q_proj"
LAYERS = {
    f"unet.{Q}": [1280, 1280],
    f"base_model.model.{Q}": [1280, 1280],
    f"lora_unet_{Q.replace('.', '_')}": [1280, 1280],
    "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q": [1280, 1280],
    "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q": [1280, 1280],
    f"unet.{Q.replace('to_q', 'processor.to_q')}": [1280, 1280],
    f"unet.{CONV}": [640, 640, 3, 3],
    "lora_unet_input_blocks_5_0_in_layers_2": [640, 640, 3, 3],
    "unet.conv_in": [320, 4, 3, 3],
    "lora_unet_out_2": [4, 320, 3, 3],
    "text_encoder_2.text_projection": [1280, 1280],
    f"unet.{SMALL}.attn1.to_q": [96, 96],
    f"unet.{SMALL}.attn1.to_out.0": [96, 96],
    f"base_model.model.{SMALL}.attn2.to_k": [96, 160],
    "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_v": [96, 96],
    f"lora_unet_{SMALL.replace('.', '_')}_attn1_to_q": [96, 96],
    f"{SMALL}.attn1.processor.to_q": [96, 96],
    "unet.down_blocks.0.resnets.0.conv1": [48, 48, 3, 3],
    "lora_unet_input_blocks_1_0_out_layers_3": [48, 48, 3, 3],
    f"text_encoder.{ENCODER}": [64, 64],
    f"lora_te2_{ENCODER.replace('.', '_')}": [96, 96],
    f"text_encoders.clip_l.transformer.{ENCODER}": [64, 64],
}
PAIRS = [
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
]
EXTRA = [
    ".alpha", ".dora_scale", ".diff", ".diff_b", ".lora_mid.weight", ".hada_w1_a", ".hada_w1_b",
    ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".lokr_w1", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b",
    ".lora_B.bias", ".features", ".feature_scales", ".weight", ".oft_blocks",
]  # fmt: skip
DTYPES = {
    "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I8": 1,
    "U16": 2, "BOOL": 1, "C64": 8, "F8_E8M0": 1,
}  # fmt: skip
UNKNOWN_DTYPES = ["F4", "F128", "f32", ""]
JUNK = ["", ".", "_", "unet.", "lora_", "module.", "text_encoder_2.", "\x1b[31m", "é", "9" * 40,
        "model.", "\n", "transformer.", "to_out.0"]  # fmt: skip
SIZES = [0, 1, 2, 3, 4, 9, 48, 64, 96, 160]
HUGE = [-1, 5, 2**31, 2**62, 2**63, 2**64]
ALPHAS = [
    b"\0" * 8,
    b"\xff" * 8,
    struct.pack("<d", 1.0),
    struct.pack("<ff", 4, 4),
    b"\0\0\x80\x7f" * 2,
]
METADATA: list[Any] = [
    None, {}, {"format": "pt"}, {"lora_adapter_metadata": '{"unet.lora_alpha": 4, "unet.r": 2}'},
    {"lora_adapter_metadata": '{"unet.alpha_pattern": {"to_q": 3, "^.*[kv]$": 1}}'},
    {"lora_adapter_metadata": '{"unet.use_rslora": true, "unet.alpha_pattern": {"(a+)+": 1}}'},
    {"lora_adapter_metadata": "[" * 3000}, {"lora_adapter_metadata": '{"unet.use_dora": 1}'},
    {"lora_adapter_metadata": '{"unet.init_lora_weights": "pissa"}'},
    {"lorarar.prepared": '{"role": "style", "level": "small", "fingerprint": "x", "error": 0.1}'},
    {"lorarar.prepared": "7"},
]  # fmt: skip
Tensor = tuple[str, list[int], bytes]  # dtype, shape, how its data begins
BAD_METADATA: list[Any] = [{"a": 7}, [], "text", {"a": None}, {"a": {}}]


class Choices:
    """Reads a fuzzer's bytes as numbers and pieces, as LLVM's FuzzedDataProvider does."""

    def __init__(self, data: bytes):
        self.data = bytearray(data)

    def number(self, low: int, high: int) -> int:
        """One of low to high, from as many of the last bytes as it takes; low if none are left."""
        drawn, needed = 0, (high - low).bit_length()
        while needed > 0 and self.data:
            drawn = drawn << 8 | self.data.pop()
            needed -= 8
        return low + drawn % (high - low + 1)

    def piece(self, count: int) -> bytes:
        """The first bytes, fewer at the end."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def pick(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.number(0, len(options) - 1)]

    def once_in(self, times: int) -> bool:
        """True about once in so many times."""
        return self.number(1, times) == times


def make_file(choices: Choices) -> bytes:
    """A safetensors file, nearly valid more often than not."""

    pick, once_in = choices.pick, choices.once_in
    tensors: dict[str, Tensor] = {}
    for _ in range(choices.number(1, 4)):
        name = pick([*LAYERS])
        out, width, *kernel = LAYERS[name]
        rank, dtype = pick([1, 2, 4, 2, 1, 0]), pick(["F32", "F16", "BF16", *DTYPES])
        down, up = [rank, width, *kernel], [out, rank, *(1 for _ in kernel)]
        seen = _mutated(name, choices)
        for ending, shape in zip(pick(PAIRS), (down, up), strict=True):
            if not once_in(32):
                own = pick([*DTYPES]) if once_in(6) else dtype
                tensors[seen + ending] = own, _bent(shape, choices), b""
        for _ in range(pick([0, 0, 0, 1, 2])):
            ending = ".alpha" if once_in(2) else pick(EXTRA)
            shape = pick([[], [1], [4], [out, width], [out, 1], [1, width], [out, 2], [2, width]])
            tensors[seen + ending] = pick(["F32", *DTYPES]), shape, pick(ALPHAS)
    return _encoded(tensors, choices)


def _mutated(name: str, choices: Choices) -> str:
    pick, once_in = choices.pick, choices.once_in
    if not once_in(8):
        return name
    at = len(name) * pick(range(9)) // 8
    return name[:at] + pick(JUNK) + name[at + pick(range(4)) :]


def _bent(shape: list[int], choices: Choices) -> list[int]:
    pick, once_in = choices.pick, choices.once_in
    if not once_in(8):
        return shape
    bent = [*shape, *([1, 1] if once_in(2) else [])]
    bent[pick(range(len(bent)))] = pick(HUGE if once_in(8) else SIZES)
    return bent[::-1] if once_in(4) else bent


def _encoded(tensors: dict[str, Tensor], choices: Choices) -> bytes:
    pick, once_in = choices.pick, choices.once_in
    header: dict[str, Any] = {}
    if once_in(2):
        header["__metadata__"] = pick(BAD_METADATA if once_in(16) else METADATA)
    data = b""
    for name, (dtype, shape, start) in tensors.items():
        size = max(0, min(DTYPES[dtype] * math.prod(shape), LARGEST))
        begin = len(data) if not once_in(128) else pick(HUGE)
        data += (start + b"\x3c" * size)[:size]
        said = dtype if not once_in(128) else pick(UNKNOWN_DTYPES)
        header[name] = {"dtype": said, "shape": shape, "data_offsets": [begin, begin + size]}
    text = json.dumps(header).encode()
    if once_in(12):
        at = choices.number(0, len(text))
        text = text[:at] + choices.piece(4) + text[at + choices.number(0, 4) :]
    text += b" " * (-len(text) % 8 if once_in(2) else 0)
    length = len(text) if not once_in(64) else pick(HUGE)
    return struct.pack("<Q", length % 2**64) + text + (data if not once_in(32) else data[:5])

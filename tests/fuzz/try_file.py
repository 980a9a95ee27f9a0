"""What must hold of any file: a LoRA that can be used, or one line of refusal."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from fuzz.lora_files import Choices, make_file

from lorarar import LorararError, load_lora
from lorarar.lora import Layer
from lorarar.lora_convert import EVERY_PART, convert_lora
from lorarar.named_layers import read_layers
from lorarar.summary import overview

NARROW = 160  # weights up to here are small enough to be converted each time
MARKS = (b"hada_", b"lokr_", b"lora_mid", b".diff", b"dora_scale")  # of what can be converted
GROWTH = 81 * 16  # of factors: kernels moved from up to down, and float8 held as wider floats
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
FILE = FOLDER / "fuzzed.safetensors"


def try_file(data: bytes) -> bool:
    """Read a file of these choices, use what it gives, and check what a refusal says.

    Returns whether it is a plain LoRA.
    """
    content = make_file(Choices(data))
    FILE.write_bytes(content)
    try:
        lora = load_lora(FILE)
        overview(lora)
        for layer in lora.layers.values():
            check(layer, len(content))
        return True
    except LorararError as error:
        check_refusal(error)
    if not any(mark in content for mark in MARKS):
        return False
    try:
        named = read_layers(FILE, EVERY_PART)
        if all(max(shape) <= NARROW for shape in named.shapes.values()):
            for layer in convert_lora(FILE, 2).lora.layers.values():
                assert layer.rank <= 2
                check(layer, 16 * len(content))
    except LorararError as error:
        check_refusal(error)
    return False


def check(layer: Layer, size: int) -> None:
    """Factors fit each other and are not much larger than their file."""
    for factor in (layer.up, layer.down):
        assert math.prod(factor.shape) * factor.dtype.itemsize <= GROWTH * size
        made = np.asarray(factor)
        assert (made.shape, made.dtype) == (factor.shape, layer.up.dtype)
    assert layer.up.shape[1] == layer.rank and math.isfinite(layer.scale)


def check_refusal(error: LorararError) -> None:
    """One line that names the file."""
    assert FILE.name in str(error) and "\n" not in str(error), error

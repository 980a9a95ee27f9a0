"""Fuzz `load_lora` with coverage as a guide: whatever the file, a LoRA or one line of refusal.

    pip install atheris
    python tests/fuzz/fuzz_lora.py tests/fuzz/corpus -runs=1000000 -timeout=5 -rss_limit_mb=1024

New inputs that reach new code are kept in the first folder named. Any exception but LorararError, a
hang of 5 seconds, or more memory than the files explain, stops it.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["lorarar"]):
    from lorarar import LorararError, load_lora
    from lorarar.lora import Layer
    from lorarar.lora_convert import EVERY_PART, convert_lora
    from lorarar.named_layers import read_layers
    from lorarar.summary import overview

from lora_files import make_file

NARROW = 160  # weights up to here are small enough to be converted each time
GROWTH = 81 * 16  # of factors: kernels moved from up to down, and float8 held as wider floats
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
FILE = FOLDER / "fuzzed.safetensors"


def try_file(data: bytes) -> None:
    """Read a file of these choices, use what it gives, and check what a refusal says."""
    content = make_file(atheris.FuzzedDataProvider(data))
    FILE.write_bytes(content)
    try:
        lora = load_lora(FILE)
        overview(lora)
        for layer in lora.layers.values():
            check(layer, len(content))
    except LorararError as error:
        check_refusal(error)
    try:
        named = read_layers(FILE, EVERY_PART)
        if all(max(shape) <= NARROW for shape in named.shapes.values()):
            for layer in convert_lora(FILE, 2).lora.layers.values():
                assert layer.rank <= 2
                check(layer, 16 * len(content))
    except LorararError as error:
        check_refusal(error)


def check(layer: Layer, size: int) -> None:
    for factor in (layer.up, layer.down):
        assert math.prod(factor.shape) * factor.dtype.itemsize <= GROWTH * size
        made = np.asarray(factor)
        assert (made.shape, made.dtype) == (factor.shape, layer.up.dtype)
    assert layer.up.shape[1] == layer.rank and math.isfinite(layer.scale)


def check_refusal(error: LorararError) -> None:
    assert FILE.name in str(error) and "\n" not in str(error), error


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_file)
    atheris.Fuzz()

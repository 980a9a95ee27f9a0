"""A slice of the fuzzing that `tests/fuzz/fuzz_lora.py` does for longer: the inputs that reached
new code, and random ones."""

import random
from pathlib import Path

from fuzz.try_file import try_file

CORPUS = Path(__file__).parent / "fuzz" / "corpus"


def test_inputs_that_once_reached_new_code_are_read_or_refused():
    taken = [try_file(file.read_bytes()) for file in sorted(CORPUS.iterdir())]
    assert len(taken) > 100 and 10 < sum(taken) < len(taken) - 10


def test_random_files_are_read_or_refused():
    generator = random.Random(0)
    taken = [try_file(generator.randbytes(generator.randrange(300))) for _ in range(2000)]
    assert 20 < sum(taken) < 1980

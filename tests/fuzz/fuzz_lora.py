"""Fuzz `load_lora` and `convert_lora` with coverage as a guide, whatever the file.

    pip install atheris
    cd tests && python -m fuzz.fuzz_lora fuzz/corpus -runs=1000000 -max_len=300 -len_control=0 \
        -timeout=5 -rss_limit_mb=1024

Inputs that reach new code are added to the corpus. Any exception but LorararError, a hang of 5
seconds, or more memory than the files explain, stops it and leaves the input behind.
"""

import sys

import atheris

with atheris.instrument_imports(include=["lorarar"]):
    from fuzz.try_file import try_file


def one_input(data: bytes) -> None:
    """Any result is as good as another."""
    try_file(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

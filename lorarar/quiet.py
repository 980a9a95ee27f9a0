"""What libraries say that helps nobody who runs a command, silenced one by one."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import TextIOBase
from typing import TextIO

# Each says something about the libraries that are installed, whatever a command does.
LOUD = (
    "coremltools",  # versions of torch and scikit-learn that it has not been tested with
    "diffusers.quantizers.torchao.torchao_quantizer",  # a torchao that is newer than diffusers
    "diffusers.utils.import_utils",  # two distributions of optimum
    "torch.onnx._internal.exporter._registration",  # torchvision is not installed
    "torch.utils._pytree",  # torchao's use of a deprecated function
    "torchao",  # its code for GPUs that are not here
)


def silence_libraries() -> None:
    """Let these loggers say nothing below an error, before or after they are imported."""
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    # torch.export, of its own code; the warning points to copyreg.
    warnings.filterwarnings(
        "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
    )


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Drop what is written to file descriptor 2 meanwhile, by whatever thread, as C++ does."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def without_bars() -> Iterator[None]:
    """Drop tqdm's bars from stderr meanwhile, of which coremltools shows dozens, and only these."""
    with redirect_stderr(_WithoutBars(sys.stderr)):
        yield


class _WithoutBars(TextIOBase):
    """A stream that leaves out bars, which begin with a carriage return and end with a new line."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.in_bar = False

    def write(self, text: str) -> int:
        self.in_bar = text.startswith("\r") or (self.in_bar and not text.strip())
        return len(text) if self.in_bar else self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

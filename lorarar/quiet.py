"""What libraries say that helps nobody who runs a command, silenced one by one."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import TextIOBase
from tempfile import TemporaryFile
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
NATIVE_NOTES = re.compile(rb"\[(cpuinfo_utils|threadpool)\.cpp:\d+\] ")


def silence_libraries() -> None:
    """Let these loggers, and diffusers, say nothing below an error; for commands, to begin with."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # it sets its level when it is imported
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    # torch.export, of its own code; the warning points to copyreg.
    warnings.filterwarnings(
        "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
    )


@contextmanager
def without_native_notes() -> Iterator[None]:
    """Drop ExecuTorch's notes on the CPU and its threads, which C++ writes to file descriptor 2.

    Whatever else is written there meanwhile comes at the end.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not NATIVE_NOTES.match(line):
                    os.write(2, line)


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

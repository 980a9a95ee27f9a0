"""What libraries say that is no news to whoever runs our commands, silenced at its source."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = (
    "diffusers.utils.import_utils",  # which of its two distributions optimum comes from
    "diffusers.quantizers.torchao.torchao_quantizer",  # classes that torchao no longer has
    "torch.utils._pytree",  # torchao registers enums, which torch calls deprecated
    "torchao",  # kernels for other GPUs and Pythons, which it tries to load
)


def quiet_libraries() -> None:
    """Let these loggers pass on errors only; before the libraries are imported."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def native_stderr_dropped() -> Iterator[None]:
    """Within this context, what native code writes to stderr is lost; of the whole process."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

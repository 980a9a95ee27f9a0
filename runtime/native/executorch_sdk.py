"""ExecuTorch's headers and torch-free libraries, which its wheels of 1.5.1 and later hold."""

import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.files import user_cache, write_folder_atomically

from .tools import check_digest, run

PINNED = "1.5.1"
WHEELS = ("manylinux_2_28_aarch64", "manylinux2014_aarch64")
SHA256 = "8ee02348a3ea80ddf770822911ebf78da616b73afce0fbaaa79f23311c88c66a"  # for CPython 3.11


def executorch_sdk(target: str) -> tuple[Path, str]:
    """Return a folder with `include/` and `lib/`, and the version: the installed package's, or for
    aarch64 the same version's wheel, fetched once.

    Raises LorararError if the package is not installed or older, or the wheel cannot be had.
    """
    try:
        installed = version("executorch").partition("+")[0]
    except PackageNotFoundError as error:
        raise LorararError(
            "executorch: not installed; run: pip install 'lorarar[executorch]'"
        ) from error
    root = _installed(installed) if target == "host" else _fetched(installed)
    return root, installed


def _installed(installed: str) -> Path:
    spec = find_spec("executorch")
    places = spec.submodule_search_locations if spec else None
    root = Path(next(iter(places or ["executorch"])))
    if not (root / "lib" / "libexecutorch.so").exists():
        raise LorararError(
            f"executorch {installed}: has no C++ libraries; run: pip install executorch=={PINNED}"
        )
    return root


def _fetched(installed: str) -> Path:
    if installed != PINNED:
        raise LorararError(
            f"executorch {installed}: only the aarch64 wheel of {PINNED} is pinned; "
            f"run: pip install executorch=={PINNED}"
        )
    folder = user_cache("native") / f"executorch-{PINNED}-aarch64"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_folder_atomically(folder, _fill, force=False)
    return folder / "executorch"


def _fill(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        run([
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch,
            *(part for wheel in WHEELS for part in ("--platform", wheel)),
            "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
            f"executorch=={PINNED}",
        ])  # fmt: skip
        [wheel] = Path(scratch).glob("*.whl")
        check_digest(wheel, "sha256", SHA256)
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(("executorch/include/", "executorch/lib/")):
                    archive.extract(name, folder)

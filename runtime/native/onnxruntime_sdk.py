"""ONNX Runtime's library for this machine and for aarch64, and its headers, fetched and pinned.

The libraries come from npm's onnxruntime-node; its headers, which no package of npm or PyPI has,
from Debian: those of an older version, as its C API only grows.
"""

import shutil
import tarfile
import tempfile
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.files import user_cache, write_folder_atomically

from .tools import check_digest, fetch_from_debian, run

VERSION = "1.30.0"
NPM_SHA512 = (
    "b7086cd42d82fc1164cf5c9ce4e634288536194aba0d444eee10f86f1e50d90c"
    "b79c0309c115d6f31537355733136f5503d96894b3987a9a03f1f8d318e7c8ab"
)
HEADERS = "pool/main/o/onnxruntime/libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb"
HEADERS_SHA256 = "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08"
LIBRARY = "libonnxruntime.so.1"
ARCHITECTURES = {"host": "x64", "aarch64": "arm64"}  # as npm's package has them


def onnxruntime_sdk(target: str) -> tuple[Path, str]:
    """Return a folder with `include/` and `lib/`, fetched once, and the version.

    Raises LorararError if they cannot be had or are not what is pinned here.
    """
    folder = user_cache("native") / f"onnxruntime-{VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_folder_atomically(folder, _fill, force=False)
    return folder / target, VERSION


def _fill(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        headers = _unpacked_headers(Path(scratch))
        package = _fetched_package(Path(scratch))
        with tarfile.open(package) as archive:
            for target, architecture in ARCHITECTURES.items():
                shutil.copytree(headers, folder / target / "include")
                (folder / target / "lib").mkdir()
                inside = f"package/bin/napi-v6/linux/{architecture}/{LIBRARY}"
                _extract(archive, inside, folder / target / "lib" / LIBRARY)


def _fetched_package(scratch: Path) -> Path:
    run(["npm", "pack", "--silent", "--pack-destination", scratch, f"onnxruntime-node@{VERSION}"])
    package = scratch / f"onnxruntime-node-{VERSION}.tgz"
    check_digest(package, "sha512", NPM_SHA512)
    return package


def _extract(archive: tarfile.TarFile, name: str, path: Path) -> None:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise LorararError(f"onnxruntime-node {VERSION}: has no {name}; pin another version")
    with file, path.open("wb") as out:
        shutil.copyfileobj(file, out)


def _unpacked_headers(scratch: Path) -> Path:
    package = scratch / Path(HEADERS).name
    package.write_bytes(fetch_from_debian(HEADERS))
    check_digest(package, "sha256", HEADERS_SHA256)
    run(["dpkg-deb", "-x", package, scratch / "headers"])
    return scratch / "headers" / "usr" / "include" / "onnxruntime"

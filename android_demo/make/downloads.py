"""What the build needs and no package index of Python has: fetched once, pinned, kept in a cache.

Debian's dx and android.jar (API 23) turn Java into an app without Google's SDK; the native runtime
comes from two packages of npm. Nothing of it is ever committed.
"""

import base64
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.files import user_cache, write_atomically, write_folder_atomically
from lorarar.runtime.native.tools import fetch_from_debian, run

DX = (
    "pool/main/a/android-platform-dalvik/dalvik-exchange_10.0.0+r36-1_all.deb",
    "8fc128db7c27253d963eb9b33de79b197162a4749d2ba69019b2fd0664cbd7fe",
)
ANDROID_JAR = (
    "pool/main/a/android-framework-23/libandroid-23-java_6.0.1+r72-6_all.deb",
    "8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3",
)
EXECUTORCH = (
    "react-native-executorch",
    "0.8.5",
    "MnJed2mO0Up8+iznsI9mAhmS1ZOTLeCoSRbemETGU1aPq3veib55inm1N1eCr1ktklKK25KeU8Hww177JNDcZg==",
)
FBJNI = (
    "react-native",
    "0.70.15",
    "pm2ZPpA+m0Kl0THAy2fptnp7B9+QPexpfad9fSXfqjPufrXG2alwW8kYCn2EO5ZUX6bomZjFEswz6RzdRN/p9A==",
)
AAR = "package/android/com/facebook/react/react-native/0.70.15/react-native-0.70.15-release.aar"
LIBRARIES = ("libexecutorch.so", "libfbjni.so", "libc++_shared.so")


@dataclass(frozen=True)
class JavaTools:
    """dx, which turns Java's classes into Android's; android_jar, the platform's API 23."""

    dx: Path
    android_jar: Path


@dataclass(frozen=True)
class NativeRuntime:
    """ExecuTorch for Android, unpacked into a folder."""

    folder: Path

    @property
    def jar(self) -> Path:
        """Its Java classes."""
        return self.folder / "executorch.jar"

    @property
    def licence(self) -> Path:
        """Of the package that its two helping libraries came in."""
        return self.folder / "react-native-LICENSE.txt"

    def libraries(self, abi: str) -> Path:
        """Return the folder of one ABI's libraries, "arm64-v8a" or "x86_64"."""
        return self.folder / abi


def cache_folder() -> Path:
    """The folder for what is fetched, in the user's cache."""
    return user_cache("android")


def java_tools(cache: Path) -> JavaTools:
    """Fetch dx and android.jar.

    Raises LorararError if they cannot be had, or are not what is pinned here.
    """
    folders = [_unpacked_deb(cache, *package) for package in (DX, ANDROID_JAR)]
    java = "usr/share/java"
    return JavaTools(
        folders[0] / java / "com.android.dx-10.0.0.jar",
        folders[1] / java / "com.android.android-23.jar",
    )


def native_runtime(cache: Path) -> NativeRuntime:
    """Fetch ExecuTorch's runtime for Android, for phones and for x86-64.

    Raises LorararError if it cannot be had, or is not what is pinned here.
    """
    folder = cache / f"runtime-{EXECUTORCH[1]}-{FBJNI[1]}"
    if not folder.exists():
        archives = [_fetched_npm(cache, *package) for package in (EXECUTORCH, FBJNI)]
        write_folder_atomically(folder, lambda part: _unpack_runtime(part, *archives), force=False)
    return NativeRuntime(folder)


def _unpack_runtime(folder: Path, executorch: Path, react_native: Path) -> None:
    with tarfile.open(executorch) as archive:
        _extract(archive, "package/android/libs/classes.jar", folder / "executorch.jar")
        for abi in ("arm64-v8a", "x86_64"):
            inside = f"package/third-party/android/libs/executorch/{abi}/{LIBRARIES[0]}"
            _extract(archive, inside, folder / abi / LIBRARIES[0])
    with tarfile.open(react_native) as archive:
        _extract(archive, AAR, folder / "react-native.aar")
        _extract(archive, "package/LICENSE", folder / "react-native-LICENSE.txt")
    with zipfile.ZipFile(folder / "react-native.aar") as aar:
        for abi in ("arm64-v8a", "x86_64"):
            for name in LIBRARIES[1:]:
                (folder / abi / name).write_bytes(aar.read(f"jni/{abi}/{name}"))
    (folder / "react-native.aar").unlink()


def _extract(archive: tarfile.TarFile, name: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    file = archive.extractfile(name)
    if file is None:
        raise LorararError(f"{path.name}: '{name}' is no file in its package")
    with file, path.open("wb") as out:
        shutil.copyfileobj(file, out)


def _unpacked_deb(cache: Path, path: str, sha256: str) -> Path:
    folder = cache / Path(path).stem
    if folder.exists():
        return folder
    package = cache / Path(path).name
    _check(fetch_from_debian(path), package.name, hashlib.sha256, sha256, package)
    write_folder_atomically(
        folder, lambda part: run(["dpkg-deb", "-x", package, part]), force=False
    )
    return folder


def _fetched_npm(cache: Path, name: str, version: str, integrity: str) -> Path:
    archive = cache / f"{name}-{version}.tgz"
    if not archive.exists():
        part = cache / "npm"
        part.mkdir(parents=True, exist_ok=True)
        try:
            run(["npm", "pack", "--silent", "--pack-destination", part, f"{name}@{version}"])
        except LorararError as error:
            raise LorararError(f"{archive.name}: cannot be fetched ({error})") from error
        digest = base64.b64decode(integrity).hex()
        _check((part / archive.name).read_bytes(), archive.name, hashlib.sha512, digest, archive)
        shutil.rmtree(part)
    return archive


def _check(
    content: bytes, name: str, digest: Callable[[bytes], "hashlib._Hash"], wanted: str, path: Path
) -> None:
    found = digest(content).hexdigest()
    if found != wanted:
        raise LorararError(f"{name}: has digest {found}, but {wanted} is pinned; not used")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content), force=True)

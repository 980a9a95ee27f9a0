"""Build Android's C libraries over glibc, so that an APK's native libraries load on this host.

A library of Android asks for `memcpy@LIBC`; here a `libc.so` answers: by a jump to glibc's
function, or by host/shim/shim.c where the two differ. It says nothing about a phone's speed.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from lorarar.runtime.native.tools import run

SOURCE = Path(__file__).parents[1] / "host" / "shim" / "shim.c"
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
JUMPS = {"x86_64": "jmp {}@PLT", "aarch64": "b {}"}
# Their symbols are in the one libc.so; the files must be there and know the version.
EMPTY = ("libm.so", "libdl.so", "liblog.so", "libandroid.so")
VERSIONS = "LIBC {}; LIBC_N {};\n"


def build(libraries: Iterable[Path], folder: Path, machine: str) -> None:
    """Write into `folder` what `libraries` take from Android; machine: "x86_64" or "aarch64".

    Raises LorararError if the compiler is missing, or fails, as when neither glibc nor shim.c has
    a symbol.
    """
    folder.mkdir(parents=True, exist_ok=True)
    symbols = sorted({symbol for library in libraries for symbol in undefined(library)})
    source = folder / "libc.c"
    source.write_text(f'#include "{SOURCE}"\n__asm__(\n{assembly(symbols, JUMPS[machine])});\n')
    nothing = folder / "nothing.c"
    nothing.write_text("char nothing;\n")
    script = folder / "versions"
    script.write_text(VERSIONS)
    for name in ("libc.so", *EMPTY):
        own = source if name == "libc.so" else nothing
        compiler = [COMPILERS[machine], "-O2", "-shared", "-fPIC", "-fno-builtin"]
        names = [f"-Wl,-soname,{name}", f"-Wl,--version-script={script}", "-Wl,-z,defs"]
        run([*compiler, str(own), "-o", str(folder / name), *names, "-lm"])


def undefined(library: Path) -> list[tuple[str, str]]:
    """List (name, version) of what a library takes from Android's C library."""
    listed = run(["readelf", "-W", "--dyn-syms", library])
    return re.findall(r" UND (\w+)@(LIBC\w*)", listed)


def assembly(symbols: list[tuple[str, str]], jump: str) -> str:
    """Give every symbol its versioned name, as quoted lines of assembly."""
    own = set(re.findall(r"\bbionic_(\w+)", SOURCE.read_text()))
    own |= set(re.findall(r"^REFUSED\((\w+)\)", SOURCE.read_text(), re.MULTILINE))
    lines = []
    for name, version in symbols:
        if name in own:
            lines.append(f".symver bionic_{name}, {name}@{version}")
        else:
            label = f"jump_{name}"
            lines += [f".globl {label}", f".type {label}, %function"]
            lines += [f"{label}: {jump.format(name)}", f".symver {label}, {name}@{version}"]
    return "".join(f'    "{line}\\n"\n' for line in [".text", *lines])

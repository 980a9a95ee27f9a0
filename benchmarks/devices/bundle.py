"""A bundle: the runner with all that it loads, in one folder that runs wherever it is put.

For aarch64 it brings glibc and its loader along, so that it runs in any Linux or Android shell of
that processor: `sh run merge merger.pte content.safetensors style.safetensors`. A runner that was
built with Android's NDK needs neither.
"""

import shutil
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.runtime.native.build import Engine, Target, build

SYSROOT = Path("/usr/aarch64-linux-gnu/lib")  # of Debian's cross compiler
LOADER = "ld-linux-aarch64.so.1"
SYSTEM = (
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
)
PROGRAM, LIBRARIES = "./lorarar-run", "lib"
COMMANDS: dict[Target, tuple[str, ...]] = {  # from within the folder
    "host": (PROGRAM,),
    "aarch64": (f"./{LOADER}", "--library-path", LIBRARIES, PROGRAM),
}
SCRIPT = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 2
exec {} "$@"
"""


def add_runner(bundle: Path, target: Target, engine: Engine) -> None:
    """Build the runner if need be, and put it into a bundle's folder with all that it loads.

    Raises LorararError naming Debian's package if a tool or library is missing.
    """
    program = build(target, engine)
    shutil.copy(program, bundle)
    shutil.copytree(program.parent / LIBRARIES, bundle / LIBRARIES, dirs_exist_ok=True)
    if target == "aarch64":
        shutil.copy(_of_system(LOADER), bundle)
        (bundle / LOADER).chmod(0o755)
        for name in SYSTEM:
            shutil.copy(_of_system(name), bundle / LIBRARIES)
    script = bundle / "run"
    script.write_text(SCRIPT.format(" ".join(COMMANDS[target])))
    script.chmod(0o755)


def _of_system(name: str) -> Path:
    path = SYSROOT / name
    if not path.exists():
        raise LorararError(f"{path}: does not exist; run: apt-get install g++-aarch64-linux-gnu")
    return path

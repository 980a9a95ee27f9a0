"""Build the runner: python -m lorarar.runtime.native.build [--target host|aarch64].

Needs Debian's cmake, ninja-build, g++ (g++-aarch64-linux-gnu) and nlohmann-json3-dev.
"""

import fcntl
from pathlib import Path
from typing import Annotated, Literal

import typer

from lorarar.command import run_script
from lorarar.runtime.native.executorch_sdk import executorch_sdk
from lorarar.runtime.native.tools import require, run

Target = Literal["host", "aarch64"]
Engine = Literal["executorch", "onnxruntime"]
SOURCES = Path(__file__).resolve().parent
COMPILERS: dict[Target, str] = {"host": "g++", "aarch64": "aarch64-linux-gnu-g++"}


def build(
    target: Target = "host",
    engine: Engine = "executorch",
    sanitize: bool = False,
    folder: Path | None = None,
) -> Path:
    """Build what has changed, and return the program `lorarar-run`.

    folder: gets the program and `lib/`, the engine's libraries, and can be copied as it is;
    `build/native/<target>-<engine>` by default. sanitize: with the address sanitiser.

    Raises LorararError naming Debian's package if a tool is missing, or if the engine cannot be
    had or the compiler refuses a source.
    """
    root, version = _sdk(target, engine)
    for program in ("cmake", "ninja", COMPILERS[target]):
        require(program)
    checked = "-sanitized" if sanitize else ""
    folder = (folder or Path("build", "native", f"{target}-{engine}{checked}")).resolve()
    work = folder / "cmake"
    work.mkdir(parents=True, exist_ok=True)
    with (folder / "cmake" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests build side by side
        run([
            "cmake", "-S", SOURCES, "-B", work, "-G", "Ninja",
            f"-DENGINE={engine}", f"-DENGINE_ROOT={root}", f"-DENGINE_VERSION={version}",
            f"-DSANITIZE={'ON' if sanitize else 'OFF'}",
            f"-DCMAKE_CXX_COMPILER={COMPILERS[target]}", *_system(target),
        ])  # fmt: skip
        run(["cmake", "--build", work])
    return folder / "lorarar-run"


def _system(target: Target) -> list[str]:
    if target == "host":
        return []
    return ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]


def _sdk(target: Target, engine: Engine) -> tuple[Path, str]:
    """The engine's folder, with `include/` and `lib/`, and its version."""
    if engine == "executorch":
        return executorch_sdk(target)
    from lorarar.runtime.native.onnxruntime_sdk import onnxruntime_sdk

    return onnxruntime_sdk(target)


def main(
    target: Annotated[Target, typer.Option(help="what it is to run on")] = "host",
    engine: Annotated[Engine, typer.Option(help="what runs the models")] = "executorch",
    sanitize: Annotated[bool, typer.Option("--sanitize", help="check addresses; slow")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the program and lib/")
    ] = None,
) -> None:
    """Build the runner and print where it is."""
    print(build(target, engine, sanitize, output))


if __name__ == "__main__":
    run_script(main)

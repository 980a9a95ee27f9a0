"""What does ExecuTorch's Python binding cost, beside the same programs called from C++?

python benchmarks/executorch_calls.py EXPORTED    (needs g++; EXPORTED: of to_executorch.py)
"""

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import executorch
import numpy as np
import torch
import typer
from executorch.runtime import Runtime

from lorarar.artefacts.pipeline import Stage, read_manifest
from lorarar.benchmarks.machine import describe, seconds
from lorarar.benchmarks.report import Report, make_console, publish
from lorarar.command import run_script
from lorarar.errors import LorararError
from lorarar.export.factors import factor_names
from lorarar.parallel import cores
from lorarar.runtime.backends import Tensors
from lorarar.runtime.backends.executorch import open_stage

LIBRARIES = ("", "_threadpool", "_backend_xnnpack", "_kernels_optimized")
NOTES = ["A UNet call: the medians of all its programs, added up; inputs and factors are zeros."]


def zeros_for(stage: Stage, rank: int) -> Tensors:
    """A program's inputs by name, in order, its factors last."""
    feeds = {
        name: np.zeros([size or 1 for size in shape], dtype)
        for name, (dtype, shape) in stage.inputs.items()
    }
    shapes = (
        shape for out, width in stage.projections.values() for shape in ((rank, width), (out, rank))
    )
    names = factor_names(stage.projections)
    return feeds | {name: np.zeros(s, np.float32) for name, s in zip(names, shapes, strict=True)}


def compile_caller(folder: Path) -> Path:
    """Raises LorararError if there is no compiler, or if it fails."""
    (wheel,) = map(Path, executorch.__path__)
    caller, headers = folder / "caller", wheel / "include"
    command = ["g++", "-O2", "-std=c++17", str(Path(__file__).with_suffix(".cpp"))]
    command += [f"-I{headers}", f"-I{headers}/executorch/runtime/core/portable_type/c10"]
    command += ["-DC10_USING_CUSTOM_GENERATED_MACROS", f"-L{wheel}/lib", f"-Wl,-rpath,{wheel}/lib"]
    command += ["-Wl,--no-as-needed", *(f"-lexecutorch{name}" for name in LIBRARIES)]
    try:
        subprocess.run([*command, "-o", str(caller)], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LorararError("g++ is not here; install it") from error
    except subprocess.CalledProcessError as error:
        raise LorararError(f"g++ failed: {error.stderr[-500:]}") from error
    return caller


def called_from_cpp(files: list[Path], feeds: list[Tensors], threads: int, rounds: int) -> float:
    """Return the milliseconds of a call of all programs, by `executorch_calls.cpp`.

    Raises LorararError if it cannot be compiled or fails.
    """
    lines = [
        " ".join([str(file), *(f"{a.dtype}:{'x'.join(map(str, a.shape))}" for a in each.values())])
        for file, each in zip(files, feeds, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(compile_caller(Path(folder))), str(threads), str(rounds)]
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    if done.returncode:
        raise LorararError(f"from C++: {done.stderr.strip()[-300:]}")
    return sum(map(float, done.stdout.split()))


def called_from_python(
    files: list[Path], stages: list[Stage], feeds: list[Tensors], *, threads: int, rounds: int
) -> tuple[float, float]:
    """Return the same by the binding alone, and by the runtime, which takes factors by name."""

    def typical(call: Callable[[], object]) -> float:
        return median(seconds(call) for _ in range(rounds)) * 1e3

    bare = whole = 0.0
    for file, stage, each in zip(files, stages, feeds, strict=True):
        run = open_stage(file, stage, threads)
        whole += typical(partial(run, each))
        program = Runtime.get().load_program(str(file))
        method = program.load_method("forward")
        tensors = [torch.from_numpy(array) for array in each.values()]
        bare += typical(partial(method.execute, tensors))
    return bare, whole


def main(
    exported: Annotated[Path, typer.Argument(help="a pipeline for ExecuTorch")],
    rank: Annotated[int, typer.Option(min=1)] = 8,
    rounds: Annotated[int, typer.Option(min=1)] = 60,
    threads: Annotated[int, typer.Option(min=1)] = cores(),
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Call a UNet's programs one after another, from C++, from Python, and by the runtime."""
    stages = read_manifest(exported).parts["unet"]
    files = [exported / stage.file for stage in stages]
    feeds = [zeros_for(stage, rank) for stage in stages]
    bare, whole = called_from_python(files, stages, feeds, threads=threads, rounds=rounds)
    times = {"C++": called_from_cpp(files, feeds, threads, rounds)}
    times |= {"Python binding": bare, "lorarar.runtime": whole}
    rows = [{"name": name, "unet_call_ms": value} for name, value in times.items()]
    settings = {"programs": len(files), "rank": rank, "threads": threads, "dtype": "float32"}
    report = Report(
        benchmark="executorch_calls", machine=describe(), settings=settings, rows=rows, notes=NOTES
    )
    publish(report, make_console(), json)


if __name__ == "__main__":
    run_script(main)

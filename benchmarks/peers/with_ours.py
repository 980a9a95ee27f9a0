"""Ours: an exported folder in ONNX Runtime or OpenVINO, pairs in its slots."""

import time
from importlib.metadata import version

import numpy as np
from measuring import Mark, Pair, Task, measure

from lorarar.artefacts.formats import Engine
from lorarar.runtime.pipeline import Pipeline


def main() -> None:
    task = Task.read()
    started = time.perf_counter()
    method, *ways = task.kind.split(", ")
    in_openvino = "openvino" in ways
    engine: Engine = "openvino" if in_openvino else "onnxruntime"
    pipeline = Pipeline.load(task.model, engine, task.threads, check_hashes=False)
    load_ms = (time.perf_counter() - started) * 1e3

    def put(pair: Pair | None) -> None:
        if "prepared" in ways:
            pipeline.cache.made.clear()  # what was merged; the files stay open
        else:
            pipeline.forget()
        if pair is None:
            pipeline.load_lora(None)
        else:
            pipeline.set_pair(*pair, method=method)  # type: ignore[arg-type]

    def draw(steps: int, side: int, mark: Mark) -> np.ndarray:
        latents = []
        for after_step in pipeline.steps(
            task.prompt,
            steps=steps,
            guidance=task.guidance,
            seed=task.seed,
            size=(side, side),
        ):
            mark()
            latents.append(after_step)
        return np.asarray(pipeline.decode(latents[-1]))

    versions = {name: version(name) for name in ("lorarar", engine)}
    # OpenVINO is handed the factors when the next step begins.
    measure(
        task,
        draw,
        put,
        versions,
        reads="while drawing" if in_openvino else "at once",
        load_ms=load_ms,
    )


if __name__ == "__main__":
    main()

"""Ours: an exported folder in ONNX Runtime, pairs in its slots."""

import time
from importlib.metadata import version

import numpy as np
from measuring import Mark, Pair, Task, measure

from lorarar.runtime.pipeline import Pipeline


def main() -> None:
    task = Task.read()
    started = time.perf_counter()
    pipeline = Pipeline.load(task.model, "onnxruntime", task.threads, check_hashes=False)
    load_ms = (time.perf_counter() - started) * 1e3

    def put(pair: Pair | None) -> None:
        pipeline.forget()
        if pair is None:
            pipeline.load_lora(None)
        else:
            pipeline.set_pair(*pair, method=task.kind)  # type: ignore[arg-type]

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

    versions = {name: version(name) for name in ("lorarar", "onnxruntime")}
    measure(task, draw, put, versions, lazily=False, load_ms=load_ms)


if __name__ == "__main__":
    main()

"""OpenVINO GenAI with adapters at run time, on what optimum exported."""

import time
from importlib.metadata import version

import numpy as np
import openvino
import openvino_genai
from measuring import Mark, Pair, Task, measure


class GivenNoise(openvino_genai.Generator):
    """Gives the task's noise, so that every peer draws the same picture."""

    def __init__(self, noise: np.ndarray) -> None:
        super().__init__()
        self.noise = noise

    def next(self) -> float:
        raise NotImplementedError  # of samplers that draw noise in between

    def randn_tensor(self, shape: openvino.Shape) -> openvino.Tensor:
        return openvino.Tensor(self.noise.reshape(list(shape)))

    def seed(self, value: int) -> None:
        """Nothing depends on it."""


def config(files: Pair) -> openvino_genai.AdapterConfig:
    made = openvino_genai.AdapterConfig()
    for file in files:
        made.add(openvino_genai.Adapter(file), 1.0)
    return made


def main() -> None:
    task = Task.read()
    noise = np.load(task.noise)
    options = {"INFERENCE_NUM_THREADS": task.threads}
    if task.kind != "bfloat16":  # which it takes by itself where the processor has it
        options["INFERENCE_PRECISION_HINT"] = "f32"
    started = time.perf_counter()
    pipeline = openvino_genai.Text2ImagePipeline(
        task.model, "CPU", adapters=config(task.pairs[0]), **options
    )
    load_ms = (time.perf_counter() - started) * 1e3
    adapters = openvino_genai.AdapterConfig()

    def put(pair: Pair | None) -> None:
        nonlocal adapters
        adapters = config(pair) if pair else openvino_genai.AdapterConfig()

    def draw(steps: int, side: int, mark: Mark) -> np.ndarray:
        def after_step(step: int, steps: int, latents: openvino.Tensor) -> bool:
            mark()
            return False

        drawn = pipeline.generate(
            task.prompt,
            adapters=adapters,
            width=side,
            height=side,
            num_inference_steps=steps,
            guidance_scale=task.guidance,
            generator=GivenNoise(noise[..., : side // 8, : side // 8]),
            callback=after_step,
        )
        return np.array(drawn.data[0])

    versions = {name: version(name) for name in ("openvino", "openvino-genai", "optimum-intel")}
    measure(task, draw, put, versions, reads="while drawing", load_ms=load_ms)


if __name__ == "__main__":
    main()

"""stable-diffusion.cpp by its Python package; it reads the diffusers folder and quantises it."""

import time
from importlib.metadata import version

import numpy as np
from measuring import Mark, Pair, Task, measure
from stable_diffusion_cpp import StableDiffusion


def main() -> None:
    task = Task.read()
    dtype, mode = task.kind.split(", ")
    started = time.perf_counter()
    engine = StableDiffusion(
        model_path=task.model,
        wtype=dtype,
        lora_apply_mode=mode,
        rng_type="cpu",  # torch's
        n_threads=task.threads,
        verbose=False,
    )
    load_ms = (time.perf_counter() - started) * 1e3
    loras = ""

    def put(pair: Pair | None) -> None:
        nonlocal loras
        loras = "".join(f"<lora:{file}:1>" for file in pair or ())

    def draw(steps: int, side: int, mark: Mark) -> np.ndarray:
        sigmas = [task.sigmas[0], 0.0] if steps == 1 else task.sigmas

        def after_step(step: int, steps: int, seconds: float) -> None:
            mark()

        (picture,) = engine.generate_image(
            task.prompt + loras,
            width=side,
            height=side,
            sample_steps=steps,
            sample_method="euler",
            sigmas=",".join(map(str, sigmas)),
            cfg_scale=task.guidance,
            seed=task.seed,
            progress_callback=after_step,
        )
        return np.asarray(picture)

    versions = {"stable-diffusion-cpp-python": version("stable-diffusion-cpp-python")}
    measure(task, draw, put, versions, lazily=True, load_ms=load_ms)


if __name__ == "__main__":
    main()

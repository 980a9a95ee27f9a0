"""stable-diffusion.cpp by its Python package; it reads the files of a diffusers folder, and
quantises them."""

import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from measuring import Mark, Pair, Task, measure
from stable_diffusion_cpp import StableDiffusion

# Names of the original's tensors: by these alone it knows SDXL, before it reads diffusers' names
# (a diffusers folder of SDXL, given as a whole, it takes for SD 1).
SIGNS = (
    "conditioner.embedders.1.sign",
    "model.diffusion_model.input_blocks.sign",
    "model.diffusion_model.middle_block.1.sign",
)


def write_signs(path: Path) -> Path:
    """Write a safetensors file of a number each."""
    header = json.dumps(
        {
            name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
            for n, name in enumerate(SIGNS)
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * len(SIGNS)))
    return path


def main() -> None:
    task = Task.read()
    dtype, mode = task.kind.split(", ")
    started = time.perf_counter()
    engine = StableDiffusion(
        model_path=str(write_signs(Path(task.result).with_suffix(".safetensors"))),
        diffusion_model_path=f"{task.model}/unet/diffusion_pytorch_model.safetensors",
        clip_l_path=f"{task.model}/text_encoder/model.safetensors",
        clip_g_path=f"{task.model}/text_encoder_2/model.safetensors",
        vae_path=f"{task.model}/vae/diffusion_pytorch_model.safetensors",
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

        def progressed(done: int, of: int, seconds: float) -> None:
            if of == steps and done:  # it also tells how many of a file's tensors it has read
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
            progress_callback=progressed,
        )
        return np.asarray(picture.convert("RGB"))

    versions = {"stable-diffusion-cpp-python": version("stable-diffusion-cpp-python")}
    measure(task, draw, put, versions, reads="each time", load_ms=load_ms)


if __name__ == "__main__":
    main()

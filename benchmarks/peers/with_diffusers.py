"""diffusers and peft, in float32 or on a base that torchao quantised."""

import time
from importlib.metadata import version

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from measuring import Mark, Pair, Task, measure

ADAPTERS = ["content", "style"]
RANK = 64


def main() -> None:
    task = Task.read()
    torch.set_num_threads(task.threads)
    ways = task.kind.split(", ")
    started = time.perf_counter()
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        task.model, torch_dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    if "int8" in ways:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(pipeline.unet, Int8DynamicActivationInt8WeightConfig())
    if "hotswap" in ways:
        pipeline.enable_lora_hotswap(target_rank=RANK)
        load(pipeline, task.pairs[0])
    if "compiled" in ways:
        pipeline.unet.compile()
    load_ms = (time.perf_counter() - started) * 1e3
    noise = torch.from_numpy(np.load(task.noise))

    def put(pair: Pair | None) -> None:
        if "hotswap" in ways:
            if pair:
                load(pipeline, pair, hotswap=True)
            pipeline.set_adapters(ADAPTERS, [1.0 if pair else 0.0] * 2)
            return
        if "fused" in ways and pipeline.num_fused_loras:
            pipeline.unfuse_lora()
        pipeline.unload_lora_weights()
        if pair:
            load(pipeline, pair)
            if "fused" in ways:
                pipeline.fuse_lora(adapter_names=ADAPTERS)

    def draw(steps: int, side: int, mark: Mark) -> np.ndarray:
        def after_step(pipeline: object, step: int, at: object, kept: dict) -> dict:
            mark()
            return kept

        drawn = pipeline(
            task.prompt,
            width=side,
            height=side,
            num_inference_steps=steps,
            guidance_scale=task.guidance,
            latents=noise[..., : side // 8, : side // 8].clone(),
            callback_on_step_end=after_step,
        )
        return np.asarray(drawn.images[0])

    names = ("torch", "diffusers", "peft", *(["torchao"] if "int8" in ways else []))
    versions = {name: version(name) for name in names}
    measure(task, draw, put, versions, reads="at once", load_ms=load_ms)


def load(pipeline: StableDiffusionXLPipeline, pair: Pair, **options: bool) -> None:
    for name, file in zip(ADAPTERS, pair, strict=True):
        pipeline.load_lora_weights(file, adapter_name=name, **options)
    pipeline.set_adapters(ADAPTERS)


if __name__ == "__main__":
    main()

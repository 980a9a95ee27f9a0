"""Samplers for SDXL-class models, one function each: from noise to latents, step by step."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from lorarar.artefacts.scheduler import Sampler
from lorarar.errors import LorararError
from lorarar.runtime.noise_schedule import NoiseSchedule, RunUnet

DrawNoise = Callable[[tuple[int, ...]], np.ndarray]  # shape -> unit Gaussian noise, float32
LCM_SIGMA = 0.5


class SamplerFunction(Protocol):
    """The signature of a sampler."""

    def __call__(
        self,
        model: RunUnet,
        noise: np.ndarray,
        schedule: NoiseSchedule,
        steps: int,
        *,
        draw_noise: DrawNoise,
    ) -> Iterator[np.ndarray]:
        """Yield latents after each step, of noise's shape and dtype.

        noise: unit Gaussian, (n, channels, height, width) float32; steps: how often the model is
        called; draw_noise: gives more noise, for samplers that add some after a step.

        Raises LorararError if the schedule has fewer timesteps than steps.
        """
        ...


def euler(
    model: RunUnet,
    noise: np.ndarray,
    schedule: NoiseSchedule,
    steps: int,
    *,
    draw_noise: DrawNoise,
) -> Iterator[np.ndarray]:
    """Euler's method on dx/dsigma = (x - x_0) / sigma (Karras et al. 2206.00364, algorithm 1).

    With trailing spacing and no guidance it draws SDXL-Turbo's few steps. See `SamplerFunction`.
    """
    times, sigmas, start = schedule.levels(steps)
    x: np.ndarray = noise * np.float32(start)
    for time, sigma, next_sigma in zip(times, sigmas, sigmas[1:], strict=False):
        denoised = schedule.denoised(x, sigma, time, model)
        x = x + (x - denoised) * np.float32((next_sigma - sigma) / sigma)
        yield x


def euler_ancestral(
    model: RunUnet,
    noise: np.ndarray,
    schedule: NoiseSchedule,
    steps: int,
    *,
    draw_noise: DrawNoise,
) -> Iterator[np.ndarray]:
    """Euler's method to less noise than asked for, and fresh noise for the rest.

    The ancestral sampling of k-diffusion, whose noise levels follow no curve in diffusers. One
    step draws SDXL-Turbo's pictures. See `SamplerFunction`.
    """
    times, sigmas, start = schedule.levels(steps, curved=False)
    x: np.ndarray = noise * np.float32(start)
    for time, sigma, next_sigma in zip(times, sigmas, sigmas[1:], strict=False):
        denoised = schedule.denoised(x, sigma, time, model)
        lower = next_sigma**2 / sigma
        x = x + (x - denoised) * np.float32((lower - sigma) / sigma)
        if next_sigma:
            x = x + np.float32((next_sigma**2 - lower**2) ** 0.5) * draw_noise(noise.shape)
        yield x


def dpm_2m(
    model: RunUnet,
    noise: np.ndarray,
    schedule: NoiseSchedule,
    steps: int,
    *,
    draw_noise: DrawNoise,
) -> Iterator[np.ndarray]:
    """DPM-Solver++(2M), the last step of first order (Lu et al. 2211.01095, algorithm 2).

    Moves to r x + (1 - r) (x_0 + (x_0 - x_0 before) h / (2 h before)), where r is the ratio of
    the next sigma to this one and h = -log r. See `SamplerFunction`.
    """
    times, sigmas, start = schedule.levels(steps, whole=True)
    x: np.ndarray = noise * np.float32(start)
    before, width_before = None, 0.0
    for time, sigma, next_sigma in zip(times, sigmas, sigmas[1:], strict=False):
        denoised = schedule.denoised(x, sigma, time, model)
        estimate = denoised
        if next_sigma:
            width = np.log(sigma / next_sigma)
            if before is not None:
                estimate = denoised + (denoised - before) * np.float32(width / width_before / 2)
            before, width_before = denoised, width
        ratio = np.float32(next_sigma / sigma)
        x = ratio * x + (1 - ratio) * estimate
        yield x


def lcm(
    model: RunUnet,
    noise: np.ndarray,
    schedule: NoiseSchedule,
    steps: int,
    *,
    draw_noise: DrawNoise,
) -> Iterator[np.ndarray]:
    """Multistep consistency sampling, for LCM models (Luo et al. 2310.04378, algorithm 3).

    Moves to c_out x_0 + c_skip x, noised again unless it is the last step; the spacing is always
    that of LCM's training. See `SamplerFunction`.
    """
    if schedule.is_edm:
        raise LorararError("sampler 'lcm': the model is no LCM, but EDM's; use euler or dpm++2m")
    limit = min(schedule.config["original_inference_steps"], len(schedule.sigmas))
    if not 1 <= steps <= limit:
        raise LorararError(f"steps {steps}: lcm takes 1 to {limit}")
    apart = len(schedule.sigmas) // limit
    trained = np.arange(limit, 0, -1) * apart - 1
    times = trained[np.linspace(0, limit, steps, endpoint=False).astype(int)]
    sigmas = schedule.sigma_at(times)
    x: np.ndarray = noise * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
    for index, (time, sigma) in enumerate(zip(times, sigmas, strict=True)):
        scaled = time * schedule.config["timestep_scaling"]
        skip = np.float32(LCM_SIGMA**2 / (scaled**2 + LCM_SIGMA**2) / (sigma**2 + 1) ** 0.5)
        out = np.float32(scaled / (scaled**2 + LCM_SIGMA**2) ** 0.5)
        x = out * schedule.denoised(x, sigma, float(time), model) + skip * x
        if index + 1 < steps:
            x = x + np.float32(sigmas[index + 1]) * draw_noise(noise.shape)
        yield x


SAMPLERS: dict[Sampler, SamplerFunction] = {
    "euler": euler,
    "euler-a": euler_ancestral,
    "dpm++2m": dpm_2m,
    "lcm": lcm,
}


def settled_sampler(name: Sampler | None, schedule: NoiseSchedule) -> Sampler:
    """Return a sampler's name, or where none is given that of the model's own scheduler.

    Raises LorararError if there is none.
    """
    known = ", ".join(SAMPLERS)
    if name is None and schedule.sampler is None:
        kind = schedule.config["_class_name"]
        raise LorararError(f"{kind} is no sampler here; choose one with --sampler: {known}")
    chosen = name or schedule.sampler
    if chosen not in SAMPLERS:
        raise LorararError(f"sampler '{chosen}' is unknown; use one of {known}")
    return chosen

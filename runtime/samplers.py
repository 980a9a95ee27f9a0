"""Samplers for SDXL-class models, one function each: from noise to latents, step by step.

All work on x = x_0 + sigma * noise, where sigma^2 = (1 - a) / a and a is the cumulative product
of the training schedule's alphas. The UNet sees x / sqrt(sigma^2 + 1).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from lorarar.errors import LorararError

Sampler = Literal["euler", "dpm++2m", "lcm"]
PredictionType = Literal["epsilon", "v_prediction"]
Spacing = Literal["leading", "trailing", "linspace"]
RunUnet = Callable[[np.ndarray, float], np.ndarray]  # scaled latents, timestep -> model output
DrawNoise = Callable[[tuple[int, ...]], np.ndarray]  # shape -> unit Gaussian noise, float32

SUPPORTED: dict[str, tuple[Any, ...]] = {
    "prediction_type": get_args(PredictionType),
    "timestep_spacing": get_args(Spacing),
    "final_sigmas_type": ("zero",),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "trained_betas": (None,),
    "rescale_betas_zero_snr": (False, None),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
}
BETAS: dict[str, Callable[[float, float, int], np.ndarray]] = {
    "linear": np.linspace,
    "scaled_linear": lambda start, end, count: np.linspace(start**0.5, end**0.5, count) ** 2,
}
LCM_TRAINED_STEPS, LCM_SCALING, LCM_SIGMA = 50, 10.0, 0.5


@dataclass(frozen=True)
class NoiseSchedule:
    """How a model was trained, and where samplers step.

    sigmas: (training steps,) float64; prediction_type: what the model's output stands for;
    spacing: of timesteps; steps_offset: of leading timesteps.
    """

    sigmas: np.ndarray
    prediction_type: PredictionType
    spacing: Spacing
    steps_offset: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: Path) -> "NoiseSchedule":
        """Read the values of a diffusers scheduler_config.json.

        Raises LorararError if one is missing or not supported.

        >>> schedule = NoiseSchedule.from_config(
        ...     {
        ...         "beta_start": 0.00085,
        ...         "beta_end": 0.012,
        ...         "beta_schedule": "scaled_linear",
        ...         "num_train_timesteps": 1000,
        ...         "timestep_spacing": "leading",
        ...     },
        ...     Path("scheduler_config.json"),
        ... )
        >>> schedule.sigmas[[0, -1]].round(3).tolist()
        [0.029, 14.615]
        """
        try:
            start, end, count = (
                config[name] for name in ("beta_start", "beta_end", "num_train_timesteps")
            )
            if not (0 < start <= end < 1 and count > 1):
                raise ValueError(f"betas {start} to {end} in {count} steps")
            products = np.cumprod(1 - BETAS[config["beta_schedule"]](start, end, count))
            prediction_type = config.get("prediction_type", "epsilon")
            spacing = config["timestep_spacing"]  # its default differs among schedulers
            steps_offset = int(config.get("steps_offset", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LorararError(
                f"{source}: no configuration of a scheduler known here ({error!r}); "
                "export the model again"
            ) from error
        odd = [
            f"{name} {config[name]}"
            for name, values in SUPPORTED.items()
            if name in config and config[name] not in values
        ]
        if odd:
            raise LorararError(
                f"{source}: {', '.join(odd)} is not supported; use the torch pipeline"
            )
        return cls(np.sqrt((1 - products) / products), prediction_type, spacing, steps_offset)

    def sigma_at(self, times: np.ndarray) -> np.ndarray:
        """Return sigma at timesteps, which may lie between those of training."""
        return np.interp(times, np.arange(len(self.sigmas)), self.sigmas)

    def timesteps(self, steps: int, parts: int) -> np.ndarray:
        """Return the largest `steps` of `parts` timesteps spread over training's, falling.

        Raises LorararError if there are fewer timesteps than steps.
        """
        count = len(self.sigmas)
        if not 1 <= steps < count:
            raise LorararError(f"steps {steps}: must be 1 to {count - 1}")
        if self.spacing == "linspace":
            return np.linspace(0, count - 1, parts)[::-1][:steps]
        if self.spacing == "leading":
            return np.arange(parts)[::-1][:steps] * (count // parts) + float(self.steps_offset)
        # rounding may give one more
        return np.arange(count, 0, -count / steps)[:steps].round() - 1

    def denoised(self, x: np.ndarray, sigma: float, time: float, model: RunUnet) -> np.ndarray:
        """Return what the model takes x for without its noise (Karras et al. 2206.00364, section
        5)."""
        scale = np.float32((sigma**2 + 1) ** 0.5)
        output = model(x / scale, time)
        if self.prediction_type == "epsilon":
            return x - np.float32(sigma) * output
        return x / scale**2 - np.float32(sigma) / scale * output


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
    times = schedule.timesteps(steps, parts=steps)
    sigmas = np.append(schedule.sigma_at(times), 0)
    start = sigmas[0] if schedule.spacing != "leading" else (sigmas[0] ** 2 + 1) ** 0.5
    x: np.ndarray = noise * np.float32(start)
    for time, sigma, next_sigma in zip(times, sigmas, sigmas[1:], strict=False):
        denoised = schedule.denoised(x, sigma, time, model)
        x = x + (x - denoised) * np.float32((next_sigma - sigma) / sigma)
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
    times = schedule.timesteps(steps, parts=steps + (schedule.spacing != "trailing")).round()
    sigmas = np.append(schedule.sigma_at(times), 0)
    x: np.ndarray = noise * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
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
    limit = min(LCM_TRAINED_STEPS, len(schedule.sigmas))
    if not 1 <= steps <= limit:
        raise LorararError(f"steps {steps}: lcm takes 1 to {limit}")
    apart = len(schedule.sigmas) // limit
    trained = np.arange(limit, 0, -1) * apart - 1
    times = trained[np.linspace(0, limit, steps, endpoint=False).astype(int)]
    sigmas = schedule.sigma_at(times)
    x: np.ndarray = noise * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
    for index, (time, sigma) in enumerate(zip(times, sigmas, strict=True)):
        scaled = time * LCM_SCALING
        skip = np.float32(LCM_SIGMA**2 / (scaled**2 + LCM_SIGMA**2) / (sigma**2 + 1) ** 0.5)
        out = np.float32(scaled / (scaled**2 + LCM_SIGMA**2) ** 0.5)
        x = out * schedule.denoised(x, sigma, float(time), model) + skip * x
        if index + 1 < steps:
            x = x + np.float32(sigmas[index + 1]) * draw_noise(noise.shape)
        yield x


SAMPLERS: dict[Sampler, SamplerFunction] = {"euler": euler, "dpm++2m": dpm_2m, "lcm": lcm}

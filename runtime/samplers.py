"""Samplers for SDXL-class models, one function each: from noise to latents, step by step.

All work on x = x_0 + sigma * noise, where sigma^2 = (1 - a) / a and a is the cumulative product
of the training schedule's alphas. The UNet sees x / sqrt(sigma^2 + 1).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarar.errors import LorararError

Predict = Callable[[np.ndarray, float], np.ndarray]  # scaled latents, timestep -> UNet's answer
Draw = Callable[[tuple[int, ...]], np.ndarray]  # shape -> unit Gaussian noise, float32

SUPPORTED: dict[str, tuple] = {
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
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
class Diffusion:
    """How a model was trained, and where samplers step.

    sigmas: (training steps,) float64; prediction: what the UNet answers, "epsilon" or
    "v_prediction"; spacing: "leading", "trailing" or "linspace"; offset: of leading timesteps.
    """

    sigmas: np.ndarray
    prediction: str
    spacing: str
    offset: int

    @classmethod
    def read(cls, config: Mapping, source: Path) -> "Diffusion":
        """Read the values of a diffusers scheduler_config.json.

        Raises LorararError if one is missing or not supported.
        """
        try:
            start, end, count = (
                config[name] for name in ("beta_start", "beta_end", "num_train_timesteps")
            )
            if not (0 < start <= end < 1 and count > 1):
                raise ValueError(f"betas {start} to {end} in {count} steps")
            products = np.cumprod(1 - BETAS[config["beta_schedule"]](start, end, count))
            prediction = config.get("prediction_type", "epsilon")
            spacing = config["timestep_spacing"]  # its default differs among schedulers
            offset = int(config.get("steps_offset", 0))
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
        return cls(np.sqrt((1 - products) / products), prediction, spacing, offset)

    def sigma(self, times: np.ndarray) -> np.ndarray:
        """Noise at timesteps, which may lie between those of training."""
        return np.interp(times, np.arange(len(self.sigmas)), self.sigmas)

    def clean(self, x: np.ndarray, sigma: float, time: float, predict: Predict) -> np.ndarray:
        """What the UNet takes x for without its noise (Karras et al. 2206.00364, section 5)."""
        scale = np.float32((sigma**2 + 1) ** 0.5)
        answer = predict(x / scale, time)
        if self.prediction == "epsilon":
            return x - np.float32(sigma) * answer
        return x / scale**2 - np.float32(sigma) / scale * answer


def euler(
    predict: Predict, noise: np.ndarray, diffusion: Diffusion, steps: int, draw: Draw
) -> Iterator[np.ndarray]:
    """Euler's method on dx/dsigma = (x - x_0) / sigma (Karras et al. 2206.00364, algorithm 1).

    Yields latents after each step, like `noise` (n, channels, height, width) float32. With
    trailing spacing and no guidance it draws SDXL-Turbo's few steps.

    Raises LorararError if there are fewer timesteps than steps, as the other samplers do.
    """
    times = _times(diffusion, steps, steps)
    sigmas = np.append(diffusion.sigma(times), 0)
    start = sigmas[0] if diffusion.spacing != "leading" else (sigmas[0] ** 2 + 1) ** 0.5
    x: np.ndarray = noise * np.float32(start)
    for time, sigma, following in zip(times, sigmas, sigmas[1:], strict=False):
        clean = diffusion.clean(x, sigma, time, predict)
        x = x + (x - clean) * np.float32((following - sigma) / sigma)
        yield x


def dpm_2m(
    predict: Predict, noise: np.ndarray, diffusion: Diffusion, steps: int, draw: Draw
) -> Iterator[np.ndarray]:
    """DPM-Solver++(2M), the last step of first order (Lu et al. 2211.01095, algorithm 2).

    Moves to r x + (1 - r) (x_0 + (x_0 - x_0 before) h / (2 h before)), where r is the ratio of
    the next sigma to this one and h = -log r. Arguments, yields and errors as of `euler`.
    """
    times = _times(diffusion, steps, steps + (diffusion.spacing != "trailing")).round()
    sigmas = np.append(diffusion.sigma(times), 0)
    x: np.ndarray = noise * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
    before, width_before = None, 0.0
    for time, sigma, following in zip(times, sigmas, sigmas[1:], strict=False):
        clean = diffusion.clean(x, sigma, time, predict)
        estimate = clean
        if following:
            width = np.log(sigma / following)
            if before is not None:
                estimate = clean + (clean - before) * np.float32(width / width_before / 2)
            before, width_before = clean, width
        ratio = np.float32(following / sigma)
        x = ratio * x + (1 - ratio) * estimate
        yield x


def lcm(
    predict: Predict, noise: np.ndarray, diffusion: Diffusion, steps: int, draw: Draw
) -> Iterator[np.ndarray]:
    """Multistep consistency sampling, for LCM models (Luo et al. 2310.04378, algorithm 3).

    Moves to c_out x_0 + c_skip x, noised again by `draw` unless it is the last step. Arguments,
    yields and errors as of `euler`; the spacing is always that of LCM's training.
    """
    limit = min(LCM_TRAINED_STEPS, len(diffusion.sigmas))
    if not 1 <= steps <= limit:
        raise LorararError(f"steps {steps}: lcm takes 1 to {limit}")
    apart = len(diffusion.sigmas) // limit
    trained = np.arange(limit, 0, -1) * apart - 1
    times = trained[np.linspace(0, limit, steps, endpoint=False).astype(int)]
    sigmas = diffusion.sigma(times)
    x: np.ndarray = noise * np.float32((sigmas[0] ** 2 + 1) ** 0.5)
    for index, (time, sigma) in enumerate(zip(times, sigmas, strict=True)):
        scaled = time * LCM_SCALING
        keep = np.float32(LCM_SIGMA**2 / (scaled**2 + LCM_SIGMA**2) / (sigma**2 + 1) ** 0.5)
        out = np.float32(scaled / (scaled**2 + LCM_SIGMA**2) ** 0.5)
        x = out * diffusion.clean(x, sigma, float(time), predict) + keep * x
        if index + 1 < steps:
            x = x + np.float32(sigmas[index + 1]) * draw(noise.shape)
        yield x


SCHEDULERS = {"euler": euler, "dpm++2m": dpm_2m, "lcm": lcm}


def _times(diffusion: Diffusion, steps: int, parts: int) -> np.ndarray:
    """The largest `steps` of `parts` timesteps spread over training's, falling."""
    count = len(diffusion.sigmas)
    if not 1 <= steps < count:
        raise LorararError(f"steps {steps}: must be 1 to {count - 1}")
    if diffusion.spacing == "linspace":
        return np.linspace(0, count - 1, parts)[::-1][:steps]
    if diffusion.spacing == "leading":
        return np.arange(parts)[::-1][:steps] * (count // parts) + float(diffusion.offset)
    return np.arange(count, 0, -count / steps)[:steps].round() - 1  # rounding may give one more

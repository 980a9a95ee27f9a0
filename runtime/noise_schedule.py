"""How a model was trained to see noise, and at which noise levels pictures are drawn."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lorarar.artefacts.scheduler import Config, Sampler, edm_levels, find_class, karras, resolve
from lorarar.errors import LorararError

RunUnet = Callable[[np.ndarray, float], np.ndarray]  # scaled latents, timestep -> model output
LEAST_SIGNAL = 2.0**-24  # diffusers' instead of none, where sigma would be infinite
RHO = 7.0


class Levels(NamedTuple):
    """Where a sampler steps. times: (steps,), as the model knows them; sigmas: (steps + 1,), the
    last 0; start: what unit noise is multiplied by to begin with."""

    times: np.ndarray
    sigmas: np.ndarray
    start: float


@dataclass(frozen=True)
class NoiseSchedule:
    """Of a model whose noisy latents are x = x_0 + sigma * noise.

    config: as `lorarar.artefacts.scheduler.resolve` returns it; sigmas: of each training timestep,
    (timesteps,) float64, none for EDM's models; sampler: the one that draws as the configuration's
    class does, None if none here does.
    """

    config: Config
    sigmas: np.ndarray
    sampler: Sampler | None

    @classmethod
    def read(cls, file: Path) -> "NoiseSchedule":
        """Read a diffusers scheduler_config.json; raises LorararError as `from_config` does."""
        try:
            config = dict(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise LorararError(f"{file}: unusable ({error}); export the model again") from error
        return cls.from_config(config, file)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: Path) -> "NoiseSchedule":
        """Read the values of a diffusers scheduler_config.json.

        Raises LorararError if one is missing or not supported.

        >>> schedule = NoiseSchedule.from_config(
        ...     {
        ...         "_class_name": "EulerDiscreteScheduler",
        ...         "beta_start": 0.00085,
        ...         "beta_end": 0.012,
        ...         "beta_schedule": "scaled_linear",
        ...     },
        ...     Path("scheduler_config.json"),
        ... )
        >>> schedule.sigmas[[0, -1]].round(3).tolist()
        [0.029, 14.615]
        """
        resolved = resolve(config, source)
        known = find_class(resolved, source)
        return cls(resolved, np.empty(0) if known.is_edm else _sigmas(resolved), known.sampler)

    @property
    def is_edm(self) -> bool:
        """Whether the model takes any sigma (Karras et al. 2206.00364), not those of betas."""
        return not len(self.sigmas)

    def levels(self, steps: int, *, whole: bool = False, curved: bool = True) -> Levels:
        """Return where diffusers would step: Euler, or DPM-Solver++ with its whole timesteps.

        curved: whether Karras' levels are followed where the configuration has them.

        Raises LorararError if there are fewer timesteps than steps.
        """
        if self.is_edm:
            return self._edm_levels(steps)
        spacing = self.config["timestep_spacing"]
        times = self._timesteps(steps, parts=steps + (whole and spacing != "trailing"))
        times = times.round() if whole else times
        sigmas = self.sigma_at(times)
        if curved and self.config["use_karras_sigmas"]:
            # between training's ends for DPM-Solver++, those of the steps for Euler
            high, low = self.sigmas[[-1, 0]] if whole else sigmas[[0, -1]]
            sigmas = karras(high, low, steps, RHO)
            times = np.interp(np.log(sigmas), np.log(self.sigmas), np.arange(len(self.sigmas)))
            times = times.round() if whole else times
        is_unit = whole or spacing == "leading"
        start = (sigmas[0] ** 2 + 1) ** 0.5 if is_unit else sigmas[0]
        return Levels(times, np.append(sigmas, 0), start)

    def sigma_at(self, times: np.ndarray) -> np.ndarray:
        """Return sigma at timesteps, which may lie between those of training."""
        return np.interp(times, np.arange(len(self.sigmas)), self.sigmas)

    def _timesteps(self, steps: int, parts: int) -> np.ndarray:
        """The largest `steps` of `parts` timesteps spread over training's, falling."""
        count, spacing = len(self.sigmas), self.config["timestep_spacing"]
        if not 1 <= steps < count:
            raise LorararError(f"steps {steps}: must be 1 to {count - 1}")
        if spacing == "linspace":
            return np.linspace(0, count - 1, parts)[::-1][:steps]
        if spacing == "leading":
            offset = float(self.config["steps_offset"])
            return np.arange(parts)[::-1][:steps] * (count // parts) + offset
        # rounding may give one more
        return np.arange(count, 0, -count / steps)[:steps].round() - 1

    def _edm_levels(self, steps: int) -> Levels:
        if steps < 1:
            raise LorararError(f"steps {steps}: must be 1 or more")
        sigmas = edm_levels(self.config, steps)
        start = (self.config["sigma_max"] ** 2 + 1) ** 0.5
        return Levels(np.log(sigmas) / 4, np.append(sigmas, 0), start)

    def denoised(self, x: np.ndarray, sigma: float, time: float, model: RunUnet) -> np.ndarray:
        """Return what the model takes x for without its noise.

        It sees x / sqrt(sigma^2 + d^2), where d, the data's deviation, is 1 but for EDM's models
        (Karras et al. 2206.00364, section 5).
        """
        data = self.config.get("sigma_data", 1.0)
        scale = np.float32((sigma**2 + data**2) ** 0.5)
        output = model(x / scale, time)
        is_velocity = self.config["prediction_type"] == "v_prediction"
        if not (is_velocity or self.is_edm):
            return x - np.float32(sigma) * output
        part = np.float32(-sigma * data if is_velocity else sigma * data) / scale
        return np.float32(data**2) / scale**2 * x + part * output


def _sigmas(config: Config) -> np.ndarray:
    start, end, count = (config[name] for name in ("beta_start", "beta_end", "num_train_timesteps"))
    if config["beta_schedule"] == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    else:
        betas = np.linspace(start, end, count)
    products = np.cumprod(1 - betas)
    if config["rescale_betas_zero_snr"]:  # Lin et al. 2305.08891, algorithm 1
        roots = np.sqrt(products)
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        products = np.append(roots[:-1] ** 2, LEAST_SIGNAL)
    return np.sqrt((1 - products) / products)

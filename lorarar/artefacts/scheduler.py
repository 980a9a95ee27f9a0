"""A diffusers scheduler_config.json, read by one table wherever a model is drawn, exported or
trained: every key is honoured, known to change nothing here, or refused by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lorarar.errors import LorararError

Sampler = Literal["euler", "euler-a", "dpm++2m", "lcm"]
PredictionType = Literal["epsilon", "v_prediction"]
Spacing = Literal["leading", "trailing", "linspace"]
Config = dict[str, Any]
FILE = "scheduler/scheduler_config.json"  # in a diffusers folder
MOST_TIMESTEPS = 1_000_000

CHOICES: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": get_args(PredictionType),
    "timestep_spacing": get_args(Spacing),
    "rescale_betas_zero_snr": (False, True),
    "use_karras_sigmas": (False, True),
    "sigma_schedule": ("karras", "exponential"),
    # From here on, what the samplers here do; other values are another computation.
    "algorithm_type": ("dpmsolver++", "deis"),
    "clip_sample": (False,),
    "disable_corrector": ([],),
    "final_sigmas_type": ("zero",),
    "interpolation_type": ("linear",),
    "lambda_min_clipped": (-inf,),
    "predict_x0": (True,),
    "solver_order": (2,),
    "solver_type": ("midpoint", "logrho", "bh1", "bh2"),  # to DPMSolverMultistep, all midpoint
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "trained_betas": (None,),
    "use_beta_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "use_exponential_sigmas": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": ("fixed_small", "fixed_large"),
}
# What only says more of a key above that must be off, or is of a sampler that is not here.
IDLE = (
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "flow_shift",
    "lower_order_final",
    "sample_max_value",
    "set_alpha_to_one",
    "skip_prk_steps",
    "time_shift_type",
)
SHARED: Config = {  # defaults of all classes with betas that have such a key
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "steps_offset": 0,
    "use_karras_sigmas": False,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
}
DIFFERING = ("beta_start", "beta_end", "beta_schedule", "timestep_spacing")
EDM: Config = {
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "rho": 7.0,
}
KNOWN = {*SHARED, *DIFFERING, *CHOICES, *IDLE}  # of EDM, its own besides
NOISE = {"_class_name", "num_train_timesteps", "prediction_type", "rescale_betas_zero_snr"}
NOISE |= {"trained_betas", *DIFFERING[:3], *EDM}  # what noise depends on when training


@dataclass(frozen=True)
class SchedulerClass:
    """A class of diffusers: its defaults, and the sampler that draws as it does, if there is."""

    defaults: Config
    sampler: Sampler | None = None

    @property
    def is_edm(self) -> bool:
        """Whether its models are trained as Karras et al. have it (2206.00364), not with betas."""
        return self.defaults is EDM


def _with_betas(*differing: float | str) -> Config:
    return SHARED | dict(zip(DIFFERING, differing, strict=True))


EVEN = _with_betas(1e-4, 0.02, "linear", "linspace")
LEADING = _with_betas(1e-4, 0.02, "linear", "leading")
HEUN = _with_betas(0.00085, 0.012, "linear", "linspace")
DISTILLED = _with_betas(0.00085, 0.012, "scaled_linear", "leading")
CLASSES = {
    "EulerDiscreteScheduler": SchedulerClass(EVEN, "euler"),
    "EulerAncestralDiscreteScheduler": SchedulerClass(EVEN, "euler-a"),
    "DPMSolverMultistepScheduler": SchedulerClass(EVEN, "dpm++2m"),
    "LCMScheduler": SchedulerClass(DISTILLED, "lcm"),
    "EDMEulerScheduler": SchedulerClass(EDM, "euler"),
    "EDMDPMSolverMultistepScheduler": SchedulerClass(EDM, "dpm++2m"),
    "DPMSolverSinglestepScheduler": SchedulerClass(EVEN),
    "LMSDiscreteScheduler": SchedulerClass(EVEN),
    "UniPCMultistepScheduler": SchedulerClass(EVEN),
    "DEISMultistepScheduler": SchedulerClass(EVEN),
    "DDIMScheduler": SchedulerClass(LEADING),
    "DDPMScheduler": SchedulerClass(LEADING),
    "PNDMScheduler": SchedulerClass(LEADING),
    "HeunDiscreteScheduler": SchedulerClass(HEUN),
    "KDPM2DiscreteScheduler": SchedulerClass(HEUN),
    "KDPM2AncestralDiscreteScheduler": SchedulerClass(HEUN),
    "TCDScheduler": SchedulerClass(DISTILLED),
}
NAMELESS = SchedulerClass(SHARED, "euler")  # what differs among classes must be said


def find_class(config: Mapping[str, Any], source: Path) -> SchedulerClass:
    """Return what is known of a configuration's class.

    Raises LorararError for one that is not known here, such as those of flow matching.
    """
    name = config.get("_class_name")
    if name is None:
        return NAMELESS
    if name not in CLASSES:
        raise LorararError(
            f"{source}: {name} is not supported; give a model that was trained with betas or as "
            "EDM, and one of diffusers' schedulers for these"
        )
    return CLASSES[name]


def resolve(
    config: Mapping[str, Any],
    source: Path,
    *,
    remedy: str = "use the torch pipeline",
    mend: str = "export the model again",
) -> Config:
    """Return a configuration in which every value is said that was left to its class's default.

    null stands for the default. remedy: of what is not supported; mend: of what cannot be.

    Raises LorararError for values that are missing or not supported, for keys that are not known
    (unless they are off), and for a class that is not.

    >>> resolve({"_class_name": "LCMScheduler"}, Path("config"))["timestep_spacing"]
    'leading'
    """
    try:
        given = {name: value for name, value in config.items() if value is not None}
        known = find_class(given, source)
        resolved = known.defaults | given
        odd = list(_odd(resolved, {*KNOWN, *known.defaults}))
        if odd:
            raise LorararError(f"{source}: {', '.join(odd)} is not supported; {remedy}")
        if known.is_edm:
            _check_sigmas(resolved)
        else:
            _check_betas(resolved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LorararError(
            f"{source}: no configuration of a scheduler known here ({error!r}); {mend}"
        ) from error
    return {name: value for name, value in resolved.items() if name != "lambda_min_clipped"}


def resolve_noise(config: Mapping[str, Any], source: Path) -> Config:
    """Return what adding noise depends on when training; arguments and errors as of `resolve`."""
    return resolve(
        {name: value for name, value in config.items() if name in NOISE},
        source,
        remedy="train on a model without",
        mend="get the model again",
    )


def karras(high: float, low: float, steps: int, rho: float) -> np.ndarray:
    """Return noise levels from high to low, (steps,) (Karras et al. 2206.00364, equation 5)."""
    return np.linspace(high ** (1 / rho), low ** (1 / rho), steps) ** rho


def edm_levels(config: Mapping[str, Any], steps: int) -> np.ndarray:
    """Return an EDM model's noise levels from sigma_max to sigma_min, (steps,), as its
    sigma_schedule spreads them."""
    high, low = config["sigma_max"], config["sigma_min"]
    if config["sigma_schedule"] == "exponential":
        return np.geomspace(low, high, steps)[::-1].copy()  # of one the lowest, as in diffusers
    return karras(high, low, steps, config["rho"])


def _odd(resolved: Config, known: set[str]) -> Iterator[str]:
    for name, value in resolved.items():
        is_off = value is False or name.startswith("_")
        if value not in CHOICES[name] if name in CHOICES else not (name in known or is_off):
            yield f"{name} {value}"


def _whole(resolved: Config, name: str) -> int:
    if not isinstance(resolved[name], int):
        raise TypeError(f"{name} is {resolved[name]}")
    return int(resolved[name])


def _check_betas(resolved: Config) -> None:
    start, end, _, _ = (resolved[name] for name in DIFFERING)
    count, offset = _whole(resolved, "num_train_timesteps"), resolved["steps_offset"]
    if not (0 < start <= end < 1 and 1 < count <= MOST_TIMESTEPS):
        raise ValueError(f"betas {start} to {end} in {count} steps")
    distilled, scaling = _whole(resolved, "original_inference_steps"), resolved["timestep_scaling"]
    if not (0 <= offset < count and distilled > 0 and 0 < scaling < inf):
        raise ValueError(
            f"steps_offset {offset}, original_inference_steps {distilled}, "
            f"timestep_scaling {scaling}"
        )


def _check_sigmas(resolved: Config) -> None:
    low, high, data, rho = (
        resolved[name] for name in ("sigma_min", "sigma_max", "sigma_data", "rho")
    )
    count = _whole(resolved, "num_train_timesteps")
    if not 1 < count <= MOST_TIMESTEPS:
        raise ValueError(f"num_train_timesteps {count}")
    if not (0 < low < high < inf and 0 < data < inf and 0 < rho < inf):
        raise ValueError(f"sigmas {low} to {high}, sigma_data {data}, rho {rho}")

"""The runtime's samplers against diffusers' own, over full trajectories."""

import doctest
import inspect
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from lorarar.artefacts import scheduler as table
from lorarar.artefacts.scheduler import CHOICES, CLASSES, EDM, resolve
from lorarar.benchmarks.published import EDM_EULER as COSXL
from lorarar.errors import LorararError
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.samplers import SAMPLERS, settled_sampler

CONFIG = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
TWINS = {
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "lcm": "LCMScheduler",
}
# As published with SDXL-class models.
NOOBAI = CONFIG | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
PLAYGROUND = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5}
EDM_TWINS = {"euler": "EDMEulerScheduler", "dpm++2m": "EDMDPMSolverMultistepScheduler"}
SHAPE = (1, 4, 8, 8)
SOURCE = Path("scheduler_config.json")


def output_of(sample, time):
    """Stands for the UNet: smooth, bounded, and different at each time."""
    return np.tanh(sample * 1.3 + np.float32(np.sin(time / 90))).astype(np.float32)


class Recorder:
    """Stands for the UNet, and keeps what it was asked: the state before each step."""

    def __init__(self):
        self.samples, self.times = [], []

    def __call__(self, sample, time):
        self.samples.append(sample)
        self.times.append(float(time))
        return output_of(sample, float(time))


def sample_here(name, config, steps):
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    generator = torch.Generator().manual_seed(0)
    schedule, asked = NoiseSchedule.from_config(config, SOURCE), Recorder()
    draw = partial(torch.randn, generator=generator)
    states = SAMPLERS[name](
        asked, noise, schedule, steps, draw_noise=lambda shape: draw(shape).numpy()
    )
    return list(states), asked


def sample_by_diffusers(name, config, steps):
    """As a pipeline does whose scheduler was changed for the sampler's."""
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    made = getattr(diffusers, config["_class_name"]).from_config(config)
    twins = EDM_TWINS if config["_class_name"].startswith("EDM") else TWINS
    scheduler = getattr(diffusers, twins[name]).from_config(made.config)
    scheduler.set_timesteps(steps)
    x, asked = torch.from_numpy(noise) * scheduler.init_noise_sigma, Recorder()
    generator = torch.Generator().manual_seed(0)
    for time in scheduler.timesteps:
        given = asked(scheduler.scale_model_input(x, time).numpy(), time)
        x = scheduler.step(torch.from_numpy(given), time, x, generator=generator).prev_sample
    return x.numpy(), asked


def assert_close(found, wanted, tolerance):
    assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max()


def assert_same_trajectory(name, config, steps, tolerance=1e-4):
    (states, asked), (last, wanted) = (
        sample(name, config, steps) for sample in (sample_here, sample_by_diffusers)
    )
    assert len(states) == steps
    assert {state.dtype for state in states} == {np.dtype(np.float32)}
    np.testing.assert_allclose(asked.times, wanted.times, atol=2e-3)
    for found, sample in zip(asked.samples, wanted.samples, strict=True):
        assert_close(found, sample, tolerance)
    assert_close(states[-1], last, tolerance)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20, 30])
def test_passes_where_diffusers_passes(name, spacing, prediction, steps):
    config = CONFIG | {"timestep_spacing": spacing, "prediction_type": prediction}
    assert_same_trajectory(name, config, steps)


@pytest.mark.parametrize(("name", "steps"), [("euler", 31), ("dpm++2m", 31), ("lcm", 50)])
def test_linear_betas_pass_where_diffusers_passes(name, steps):
    assert_same_trajectory(name, CONFIG | {"beta_schedule": "linear"}, steps)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_karras_levels_pass_where_diffusers_passes(name, spacing, steps):
    config = CONFIG | {"timestep_spacing": spacing, "use_karras_sigmas": True}
    assert_same_trajectory(name, config, steps)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_zero_terminal_snr_passes_where_diffusers_passes(name, spacing, steps):
    # diffusers' LCM divides by sigma instead, which is infinite
    tolerance = 1e-3 if name == "lcm" else 1e-4
    assert_same_trajectory(name, NOOBAI | {"timestep_spacing": spacing}, steps, tolerance)


@pytest.mark.parametrize("model", [PLAYGROUND, COSXL])
@pytest.mark.parametrize("name", EDM_TWINS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_edm_passes_where_diffusers_passes(name, model, steps):
    assert_same_trajectory(name, model, steps)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_what_an_lcm_was_distilled_with_is_honoured(steps):
    config = CONFIG | {"original_inference_steps": 100, "timestep_scaling": 20.0}
    assert_same_trajectory("lcm", config | {"_class_name": "LCMScheduler"}, steps)


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_of_diffusers(name):
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    theirs = {key: value.default for key, value in parameters.items()}
    known = CLASSES[name]
    assert {key: theirs.get(key, value) for key, value in known.defaults.items()} == known.defaults
    ignored = {"clip_sample", "solver_order"} if known.sampler is None else set()
    for key in theirs.keys() & CHOICES.keys() - ignored:
        assert theirs[key] in (*CHOICES[key], None), key


def test_a_sampler_is_chosen_by_the_class():
    chosen = {name: known.sampler for name, known in CLASSES.items() if known.sampler}
    assert chosen == {twin: name for names in (TWINS, EDM_TWINS) for name, twin in names.items()}
    turbo = NoiseSchedule.from_config({"_class_name": TWINS["euler-a"]}, SOURCE)
    assert settled_sampler(None, turbo) == "euler-a"
    assert settled_sampler("euler", turbo) == "euler"


def test_a_class_without_a_sampler_here_is_drawn_only_if_one_is_chosen():
    schedule = NoiseSchedule.from_config({"_class_name": "PNDMScheduler"}, SOURCE)
    with pytest.raises(LorararError, match="PNDMScheduler is no sampler here; choose one with"):
        settled_sampler(None, schedule)
    assert settled_sampler("dpm++2m", schedule) == "dpm++2m"


@pytest.mark.parametrize(("name", "spacing"), [("Euler", "linspace"), ("DDIM", "leading")])
def test_a_missing_spacing_is_the_classs_own(name, spacing):
    kind = {"Euler": "EulerDiscreteScheduler", "DDIM": "DDIMScheduler"}[name]
    config = {key: value for key, value in CONFIG.items() if key != "timestep_spacing"}
    found = NoiseSchedule.from_config(config | {"_class_name": kind}, SOURCE)
    assert found.config["timestep_spacing"] == spacing


def test_the_tables_example_runs():
    result = doctest.testmod(table)
    assert result.attempted and not result.failed


def test_null_is_a_keys_default():
    config = resolve(CONFIG | {"steps_offset": None, "sigma_max": None}, SOURCE)
    assert config["steps_offset"] == 0 and "sigma_max" not in config
    assert resolve({"_class_name": "EDMEulerScheduler", "rho": None}, SOURCE).items() >= EDM.items()


def test_what_is_resolved_says_the_same_again():
    config = resolve(
        {"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -float("inf")}, SOURCE
    )
    assert resolve(config, SOURCE) == config
    assert None not in config.values() and -float("inf") not in config.values()


def test_turbo_starts_from_the_last_timestep():
    _, asked = sample_here("euler", CONFIG | {"timestep_spacing": "trailing"}, 4)
    assert asked.times == [999, 749, 499, 249]


@pytest.mark.parametrize("name", ["euler", "dpm++2m"])
def test_trailing_steps_are_as_many_as_asked_where_rounding_would_add_one(name):
    states, asked = sample_here(name, CONFIG | {"timestep_spacing": "trailing"}, 61)
    assert len(states) == 61
    assert min(asked.times) >= 0


def test_a_trajectory_can_be_left_at_any_step():
    noise = np.zeros(SHAPE, np.float32)
    schedule, asked = NoiseSchedule.from_config(CONFIG, SOURCE), Recorder()
    next(SAMPLERS["euler"](asked, noise, schedule, 20, draw_noise=None))
    assert len(asked.times) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"beta_schedule": "squared"}, "squared"),
        ({"prediction_type": "sample"}, "sample"),
        ({"timestep_spacing": "odd"}, "odd"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"algorithm_type": "sde-dpmsolver++"}, "algorithm_type sde-dpmsolver"),
        ({"solver_order": 3}, "solver_order 3"),
        ({"solver_type": "heun"}, "solver_type heun"),
        ({"thresholding": True}, "thresholding True"),
        ({"clip_sample": True}, "clip_sample True"),
        ({"lambda_min_clipped": -5.1}, "lambda_min_clipped -5.1"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas True"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas True"),
        ({"variance_type": "learned"}, "variance_type learned"),
        ({"sigma_max": 10.0}, "sigma_max 10.0"),
        ({"of_next_year": "more"}, "of_next_year more"),
        ({"use_exponential_sigmas": True}, "use_exponential_sigmas True"),
        ({"_class_name": "EDMEulerScheduler", "sigma_schedule": "linear"}, "sigma_schedule linear"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler is"),
        ({"_class_name": "EDMEulerScheduler", "sigma_data": 0}, "sigma_data 0"),
        ({"_class_name": "EDMEulerScheduler", "sigma_max": float("inf")}, "0.002 to inf"),
        ({"steps_offset": 1000}, "steps_offset 1000"),
        ({"num_train_timesteps": 999.5}, "num_train_timesteps is 999.5"),
        ({"original_inference_steps": "many"}, "original_inference_steps is many"),
        (
            {"_class_name": "EDMEulerScheduler", "num_train_timesteps": 10**12},
            "num_train_timesteps 1",
        ),
        ({"original_inference_steps": 0}, "original_inference_steps 0"),
        ({"final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
        ({"interpolation_type": "log_linear"}, "interpolation_type"),
        ({"timestep_type": "continuous"}, "timestep_type"),
        ({"beta_end": "much"}, "scheduler_config.json"),
        ({"beta_end": 2.0}, "betas 0.00085 to 2.0"),
        ({"beta_end": float("nan")}, "betas 0.00085 to nan"),
        ({"num_train_timesteps": 0}, "in 0 steps"),
    ],
)
def test_what_is_not_supported_is_named(change, said):
    with pytest.raises(LorararError, match=said):
        NoiseSchedule.from_config(CONFIG | change, SOURCE)


def test_a_missing_spacing_is_not_guessed_without_a_class():
    missing = ("timestep_spacing", "_class_name")
    config = {name: value for name, value in CONFIG.items() if name not in missing}
    with pytest.raises(LorararError, match=r"scheduler_config.json.*timestep_spacing"):
        NoiseSchedule.from_config(config, SOURCE)


@pytest.mark.parametrize(
    ("name", "steps", "limit"),
    [
        ("euler", 0, 999),
        ("euler-a", 1000, 999),
        ("dpm++2m", 1000, 999),
        ("lcm", 51, 50),
        ("lcm", -1, 50),
    ],
)
def test_steps_have_limits(name, steps, limit):
    schedule = NoiseSchedule.from_config(CONFIG, SOURCE)
    with pytest.raises(LorararError, match=f"steps {steps}: .*1 to {limit}"):
        next(
            SAMPLERS[name](output_of, np.zeros(SHAPE, np.float32), schedule, steps, draw_noise=None)
        )


def test_an_edm_model_is_no_lcm():
    schedule = NoiseSchedule.from_config(PLAYGROUND, SOURCE)
    with pytest.raises(LorararError, match="the model is no LCM, but EDM's; use euler or"):
        next(SAMPLERS["lcm"](output_of, np.zeros(SHAPE, np.float32), schedule, 4, draw_noise=None))

"""The runtime's samplers against diffusers' own, over full trajectories."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler

from lorarar.errors import LorararError
from lorarar.runtime.samplers import SAMPLERS, NoiseSchedule

CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
TWINS = {
    "euler": EulerDiscreteScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
    "lcm": LCMScheduler,
}
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
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    scheduler = TWINS[name].from_config(EulerDiscreteScheduler(**config).config)
    scheduler.set_timesteps(steps)
    x, asked = torch.from_numpy(noise) * scheduler.init_noise_sigma, Recorder()
    generator = torch.Generator().manual_seed(0)
    for time in scheduler.timesteps:
        given = asked(scheduler.scale_model_input(x, time).numpy(), time)
        x = scheduler.step(torch.from_numpy(given), time, x, generator=generator).prev_sample
    return x.numpy(), asked


def assert_close(found, wanted):
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def assert_same_trajectory(name, config, steps):
    (states, asked), (last, wanted) = (
        sample(name, config, steps) for sample in (sample_here, sample_by_diffusers)
    )
    assert len(states) == steps
    assert {state.dtype for state in states} == {np.dtype(np.float32)}
    np.testing.assert_allclose(asked.times, wanted.times, atol=1e-3)
    for found, sample in zip(asked.samples, wanted.samples, strict=True):
        assert_close(found, sample)
    assert_close(states[-1], last)


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
        ({"use_karras_sigmas": True}, "use_karras_sigmas"),
        ({"prediction_type": "sample"}, "sample"),
        ({"timestep_spacing": "odd"}, "odd"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
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


def test_a_missing_spacing_is_not_guessed():
    config = {name: value for name, value in CONFIG.items() if name != "timestep_spacing"}
    with pytest.raises(LorararError, match=r"scheduler_config.json.*timestep_spacing"):
        NoiseSchedule.from_config(config, SOURCE)


@pytest.mark.parametrize(
    ("name", "steps", "limit"),
    [("euler", 0, 999), ("dpm++2m", 1000, 999), ("lcm", 51, 50), ("lcm", -1, 50)],
)
def test_steps_have_limits(name, steps, limit):
    schedule = NoiseSchedule.from_config(CONFIG, SOURCE)
    with pytest.raises(LorararError, match=f"steps {steps}: .*1 to {limit}"):
        next(
            SAMPLERS[name](output_of, np.zeros(SHAPE, np.float32), schedule, steps, draw_noise=None)
        )

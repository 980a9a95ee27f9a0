"""The runtime's samplers against diffusers' own, over full trajectories."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler

from lorarar.errors import LorararError
from lorarar.runtime.schedulers import SCHEDULERS, Diffusion

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


def answer(sample, time):
    """Stands for the UNet: smooth, bounded, and different at each time."""
    return np.tanh(sample * 1.3 + np.float32(np.sin(time / 90))).astype(np.float32)


def trajectory_of_diffusers(name, config, steps, noise, draws):
    scheduler = TWINS[name].from_config(TWINS[name](**config).config)
    scheduler.set_timesteps(steps)
    x, states = torch.from_numpy(noise) * scheduler.init_noise_sigma, []
    generator = torch.Generator().manual_seed(0)
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time).numpy()
        given = torch.from_numpy(answer(scaled, float(time)))
        arguments = {} if name == "dpm++2m" else {"generator": generator}
        x = scheduler.step(given, time, x, **arguments).prev_sample
        states.append(x.numpy())
    return states


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["euler", "dpm++2m"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20, 31])
def test_ends_where_diffusers_ends(name, spacing, prediction, steps):
    config = CONFIG | {"timestep_spacing": spacing, "prediction_type": prediction}
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    diffusion = Diffusion.read(config, Path("scheduler_config.json"))
    found = list(SCHEDULERS[name](answer, noise, diffusion, steps, None))
    wanted = trajectory_of_diffusers(name, config, steps, noise, None)
    assert len(found) == steps
    compared = slice(None) if name == "euler" else slice(-1, None)  # the other's are scaled
    for one, other in zip(found[compared], wanted[compared], strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
def test_lcm_passes_where_diffusers_passes(steps):
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        return torch.randn(shape, generator=generator).numpy()

    diffusion = Diffusion.read(CONFIG, Path("scheduler_config.json"))
    found = list(SCHEDULERS["lcm"](answer, noise, diffusion, steps, draw))
    wanted = trajectory_of_diffusers("lcm", CONFIG, steps, noise, draw)
    assert np.abs(found[-1] - wanted[-1]).max() < 1e-4 * np.abs(wanted[-1]).max()


def test_a_trajectory_can_be_left_at_any_step():
    noise = np.zeros(SHAPE, np.float32)
    diffusion = Diffusion.read(CONFIG, Path("scheduler_config.json"))
    called = []

    def counted(sample, time):
        called.append(time)
        return answer(sample, time)

    next(SCHEDULERS["euler"](counted, noise, diffusion, 20, None))
    assert len(called) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"beta_schedule": "squared"}, "squared"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas"),
        ({"prediction_type": "sample"}, "sample"),
        ({"timestep_spacing": "odd"}, "odd"),
        ({"beta_end": "much"}, "scheduler_config.json"),
    ],
)
def test_what_is_not_supported_is_named(change, said):
    with pytest.raises(LorararError, match=said):
        Diffusion.read(CONFIG | change, Path("scheduler_config.json"))


@pytest.mark.parametrize(("name", "steps"), [("euler", 0), ("dpm++2m", 1000), ("lcm", 51)])
def test_steps_have_limits(name, steps):
    diffusion = Diffusion.read(CONFIG, Path("scheduler_config.json"))
    with pytest.raises(LorararError, match=f"steps {steps}"):
        next(SCHEDULERS[name](answer, np.zeros(SHAPE, np.float32), diffusion, steps, partial))

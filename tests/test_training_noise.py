"""Training adds the noise that the model's own scheduler says, or refuses to."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from lorarar.errors import LorararError
from lorarar.training.denoising import add_noise, snr_weights
from lorarar.training.noise import training_scheduler

PLAYGROUND = EDMDPMSolverMultistepScheduler(sigma_data=0.5)
COSXL = EDMEulerScheduler(
    sigma_data=1.0,
    sigma_max=120.0,
    sigma_schedule="exponential",
    prediction_type="v_prediction",
)


def noise_of(scheduler):
    """Of a model with this scheduler."""
    return training_scheduler(
        SimpleNamespace(scheduler=scheduler, config={"_name_or_path": "some/model"})
    )


@pytest.fixture
def latents():
    return torch.randn((64, 4, 8, 8), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scheduler", [PLAYGROUND, COSXL])
def test_edm_models_see_and_say_what_diffusers_means(scheduler, latents):
    torch.manual_seed(0)
    noisy = add_noise(noise_of(scheduler), latents)
    sigmas = (4 * noisy.times).exp()
    assert sigmas.min() < 0.01 and sigmas.max() > scheduler.config.sigma_max / 2
    sigma = sigmas[:, None, None, None]
    x = noisy.latents * (sigma**2 + scheduler.config.sigma_data**2).sqrt()
    found = scheduler.precondition_outputs(x, noisy.target, sigma)
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-3)
    torch.testing.assert_close(scheduler.precondition_inputs(x, sigma), noisy.latents)
    noise = (x - latents) / sigma
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02


@pytest.mark.parametrize("scheduler", [PLAYGROUND, COSXL])
def test_edm_levels_are_those_that_are_drawn_at(scheduler, latents):
    noisy = add_noise(noise_of(scheduler), latents)
    scheduler.set_timesteps(len(noise_of(scheduler).sigmas))
    nearest = (noisy.times[:, None] - scheduler.timesteps).abs().min(1).values
    assert nearest.max() < 1e-5


@pytest.mark.parametrize("scheduler", [PLAYGROUND, COSXL])
def test_edm_snr_weights_are_those_of_clean_latents(scheduler, latents):
    noise = noise_of(scheduler)
    noisy = add_noise(noise, latents)
    said = noisy.target + 0.1
    sigma = (4 * noisy.times).exp()[:, None, None, None]
    x = noisy.latents * (sigma**2 + scheduler.config.sigma_data**2).sqrt()
    error = (scheduler.precondition_outputs(x, said, sigma) - latents).square().mean((1, 2, 3))
    wanted = (1 / sigma.flatten() ** 2).clamp(max=5) * error
    found = snr_weights(noise, noisy.times, 5.0) * 0.1**2
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    "scheduler",
    [
        EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        LCMScheduler(),
        DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
        DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True),
    ],
)
def test_betas_are_the_models_own_whatever_it_draws_with(scheduler):
    noise = noise_of(scheduler)
    assert isinstance(noise, DDPMScheduler)
    assert noise.config.prediction_type == scheduler.config.prediction_type
    # Euler and its kind keep a trace of the signal where there is none
    torch.testing.assert_close(noise.alphas_cumprod, scheduler.alphas_cumprod, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler is not supported"),
        (EulerDiscreteScheduler(prediction_type="sample"), "prediction_type sample is not"),
        (EulerDiscreteScheduler(trained_betas=[0.1, 0.2]), r"trained_betas \[0.1, 0.2\] is not"),
    ],
)
def test_other_noise_is_refused_by_name(scheduler, said):
    with pytest.raises(LorararError, match=rf"some/model/scheduler/scheduler_config.json: {said}"):
        noise_of(scheduler)

"""What is exported beside programs: schedulers and tokenizers, with every value said."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from lorarar.diffusion.checkpoint import check_scheduler
from lorarar.embedded import BASE
from lorarar.errors import LorararError
from lorarar.export.rest import check_rest, write_rest
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.tokenizer import load_tokenizer

SCHEDULER = "scheduler/scheduler_config.json"
TOKENIZER = "tokenizer/tokenizer_config.json"


@pytest.fixture
def model(tmp_path):
    """The embedded model without its weights."""
    return shutil.copytree(BASE, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


def change(path, drop=(), **fields):
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: content[name] for name in content if name not in drop}))


def written(model: Path) -> Path:
    folder = model.with_name("exported")
    folder.mkdir()
    write_rest(model, folder)
    return folder


def test_a_scheduler_is_written_with_every_value_said(model):
    config = {"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -float("inf")}
    (model / SCHEDULER).write_text(json.dumps(config | {"use_karras_sigmas": True}))
    change(model / "model_index.json", scheduler=["diffusers", config["_class_name"]])
    text = (written(model) / SCHEDULER).read_text()
    found = json.loads(text, parse_constant=pytest.fail)  # infinity is no JSON
    assert found["timestep_spacing"] == "linspace" and found["beta_end"] == 0.02
    assert NoiseSchedule.from_config(found, Path(SCHEDULER)).sampler == "dpm++2m"


def test_the_schedulers_class_is_the_one_that_diffusers_loads(model):
    change(model / "model_index.json", scheduler=["diffusers", "LCMScheduler"])
    found = json.loads((written(model) / SCHEDULER).read_text())
    assert found["_class_name"] == "LCMScheduler"


def test_added_tokens_are_exported(model):
    tokenizer = CLIPTokenizer.from_pretrained(str(model / "tokenizer"))
    tokenizer.add_tokens(["<s0>"])
    tokenizer.save_pretrained(str(model / "tokenizer"))
    with pytest.raises(LorararError, match="token '<s0>' is unknown to the text encoder"):
        check_rest(model)
    change(model / "text_encoder" / "config.json", vocab_size=len(tokenizer))
    text = "a <s0> cup"
    assert (
        load_tokenizer(written(model) / "tokenizer")(text)[0, :5].tolist()
        == tokenizer(text).input_ids
    )


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        (SCHEDULER, {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type sde-dpmsolver"),
        (SCHEDULER, {"beta_schedule": "laplace"}, "beta_schedule laplace is not supported; draw"),
        (SCHEDULER, {"beta_end": 2}, "betas 0.00085 to 2 in 1000 steps.*; get the model again"),
        (TOKENIZER, {"padding_side": "left"}, "padding_side left is not supported; draw with"),
        (TOKENIZER, {"model_max_length": 8}, "model_max_length 8 is not supported"),
        ("model_index.json", {"scheduler": ["diffusers", "SCMScheduler"]}, "SCMScheduler is not"),
        ("model_index.json", {"scheduler": None}, "its scheduler is missing"),
    ],
)
def test_what_the_runtime_refuses_is_refused_before_exporting(file, fields, said, model):
    change(model / file, **fields)
    with pytest.raises(LorararError, match=said) as error:
        check_rest(model)
    assert str(model) in str(error.value)


def test_a_scheduler_is_checked_for_what_it_is_used_for(model):
    check_scheduler(model, "train")
    change(model / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    change(model / SCHEDULER, algorithm_type="sde-dpmsolver++")
    check_scheduler(model, "train")
    check_scheduler(model, "draw")
    change(model / SCHEDULER, prediction_type="flow_prediction")
    with pytest.raises(LorararError, match="prediction_type flow_prediction is not supported; tr"):
        check_scheduler(model, "train")
    change(model / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    with pytest.raises(LorararError, match="FlowMatchEulerDiscreteScheduler does not draw with"):
        check_scheduler(model, "draw")

"""Training can be killed at any moment and ends as if it had not been."""

import json
import multiprocessing
import os
import signal

import pytest
import torch

from lorarar.errors import LorararError
from lorarar.mini.judge import ANSWERS, Judge, accuracy, ask, batch, load_judge, save_judge
from lorarar.training.loop import train


def _fit_line(folder, steps, dies_at=None):
    torch.manual_seed(0)
    line = torch.nn.Linear(3, 1)
    optimiser = torch.optim.AdamW(line.parameters(), lr=0.1)

    def step(index):
        if index == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.randn(8, 3)
        loss = (line(x) - x.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    train(step, {"line": line, "optimiser": optimiser}, steps, folder, seed=3, save_every=10)
    return line.weight.detach()


def test_killed_training_resumes_to_the_same_result(tmp_path):
    straight = _fit_line(tmp_path / "straight", 100)
    process = multiprocessing.get_context("spawn").Process(
        target=_fit_line, args=(tmp_path / "killed", 100, 57)
    )
    process.start()
    process.join()
    assert process.exitcode == -9
    assert torch.equal(_fit_line(tmp_path / "killed", 100), straight)
    logs = [(tmp_path / name / "loss.jsonl").read_text() for name in ("straight", "killed")]
    steps = [[json.loads(line)["step"] for line in log.splitlines()] for log in logs]
    assert steps[0] == steps[1] == [20, 40, 60, 80, 100]


def test_training_refuses_the_state_of_another(tmp_path):
    _fit_line(tmp_path, 10)
    with pytest.raises(LorararError, match=r"state\.pt: was begun with seed 3, not 4"):
        train(lambda index: 0.0, {}, 20, tmp_path, seed=4)
    (tmp_path / "state.pt").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(LorararError, match="remove it to start anew"):
        train(lambda index: 0.0, {}, 20, tmp_path, seed=3)


def test_training_stops_when_the_loss_is_not_finite(tmp_path):
    with pytest.raises(LorararError, match="lower the learning rate"):
        train(lambda index: float("nan"), {}, 20, tmp_path)


def test_judge_is_the_same_after_a_file(tmp_path):
    torch.manual_seed(0)
    judge = Judge().eval()
    save_judge(judge, tmp_path / "judge.safetensors")
    pictures, _ = batch((1,), 16)
    again = load_judge(tmp_path / "judge.safetensors")
    for question, logits in judge(pictures).items():
        assert torch.allclose(logits, again(pictures)[question], atol=2e-2)


def test_judge_answers_in_words_and_untrained_knows_nothing():
    torch.manual_seed(0)
    judge = Judge().eval()
    said = ask(judge, batch((2,), 8)[0])
    assert all(set(said[question]) <= set(answers) for question, answers in ANSWERS.items())
    assert accuracy(judge, 256)["style"] < 0.3

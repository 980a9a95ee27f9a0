"""What a training keeps says what it is of; what is half written goes, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from lorarar.artefacts.training import Entry
from lorarar.diffusion.pipeline import load_pipeline
from lorarar.errors import LorararError
from lorarar.files import write_atomically, write_folder_atomically
from lorarar.training import lora, many
from lorarar.training.identity import begin
from lorarar.training.loop import train
from lorarar.training.recipes import HypernetRecipe, LoraRecipe
from lorarar.unfinished import held, temporary_folder

RECIPE = LoraRecipe(rank=2, steps=4, side=16)


class Stopped(BaseException):
    """As Ctrl-C is."""


@pytest.fixture
def images(tmp_path):
    for name, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), colour).save(tmp_path / name / "a.png")
    return tmp_path


def train_red(images, *, folder="one", prompt="a red thing", kind="content", recipe=RECIPE):
    output = images / "x.safetensors"
    lora.train_lora(None, images / folder, prompt, kind, output=output, recipe=recipe)
    return output


@pytest.fixture(scope="module")
def loaded():
    return load_pipeline()


@pytest.fixture(autouse=True)
def untrained(loaded, monkeypatch):
    """Every training is stopped where its first step would be, with a state."""

    def stop(*rest, work, **named):
        (work / "state.pt").touch()
        raise Stopped

    monkeypatch.setattr(lora, "load_onto", lambda *rest, **named: loaded)
    monkeypatch.setattr(lora, "fit_adapter", stop)


@pytest.fixture
def stopped(images):
    """The training of a red thing, which was stopped."""
    with pytest.raises(Stopped):
        train_red(images)
    return images


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"kind": "style"}, 'kind "content", not "style"'),
        ({"prompt": "something else"}, 'prompt "a red thing", not "something else"'),
        ({"recipe": replace(RECIPE, learning_rate=0.01)}, "learning_rate 5e-05, not 0.01"),
        ({"recipe": replace(RECIPE, steps=2)}, "steps 4, not 2"),
        ({"recipe": replace(RECIPE, prior_folder="two")}, r"without image prior/a\.png"),
        ({"folder": "two"}, r"with image a\.png "),
    ],
)
def test_a_training_goes_on_only_as_it_was_begun(stopped, change, wanted, monkeypatch):
    monkeypatch.chdir(stopped)
    with pytest.raises(LorararError, match=rf"x\.safetensors\.training: was begun .*{wanted}"):
        train_red(stopped, **change)


def test_images_that_come_or_go_and_other_captions_are_noticed(stopped):
    (stopped / "one" / "a.txt").write_text("a ball")
    with pytest.raises(LorararError, match=r'caption of a\.png "a red thing", not "a ball"'):
        train_red(stopped)
    (stopped / "one" / "a.txt").unlink()
    (stopped / "one" / "a.png").rename(stopped / "one" / "b.png")
    with pytest.raises(LorararError, match=r"without image b\.png"):
        train_red(stopped)


def test_another_model_is_noticed_and_the_same_one_elsewhere_is_not(stopped, monkeypatch):
    other = load_pipeline()
    next(other.unet.parameters()).data[0] += 0.01
    with monkeypatch.context() as patched:
        patched.setattr(lora, "load_onto", lambda *rest, **named: other)
        with pytest.raises(LorararError, match="was begun with model"):
            train_red(stopped)
    (stopped / "one").rename(stopped / "three")
    free = replace(RECIPE, checkpointing=True, sample_every=3)
    with pytest.raises(Stopped):  # so it went on
        train_red(stopped, folder="three", recipe=free)


def test_a_state_that_says_not_what_it_is_of_is_refused(stopped):
    (stopped / "x.safetensors.training" / "training.json").unlink()
    with pytest.raises(LorararError, match=r"loss\.jsonl|state\.pt: is another's, or of an older"):
        train_red(stopped)


@pytest.mark.parametrize("name", ["loss.jsonl", "loss.png", "step-00000.png", "state.pt"])
def test_what_was_there_before_a_training_stays(images, name):
    work = images / "x.safetensors.training"
    work.mkdir()
    for file in ("thesis.txt", name):
        (work / file).write_text("mine")
    with pytest.raises(LorararError, match=f"{name}: is another's"):
        train_red(images)
    assert [(work / file).read_text() for file in ("thesis.txt", name)] == ["mine", "mine"]
    (work / name).unlink()
    begin(work, {})


def test_a_prior_is_drawn_anew_for_another_prompt(images, monkeypatch):
    drawn = []

    def draw_to(path, pipeline, prompt, seed):
        drawn.append((prompt, seed))
        Image.new("RGB", (16, 16)).save(path)

    monkeypatch.setattr(lora, "_draw_to", draw_to)
    monkeypatch.setattr(lora, "encode", lambda *rest: None)
    for prompt in ("a cat", "a cat", "a dog"):
        with pytest.raises(Stopped):
            train_red(images, recipe=replace(RECIPE, prior_prompt=prompt, prior_images=1))
        (images / "x.safetensors.training" / "state.pt").unlink()
    assert drawn == [("a cat", 0), ("a dog", 0)]


def test_one_process_at_a_time_trains_in_a_folder(images):
    code = "import sys, time; from pathlib import Path; from lorarar.unfinished import held\n"
    code += "with held(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(images / "x.safetensors.training")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(LorararError, match=f"process {other.pid} on .* works in it"):
            train_red(images)
        other.kill()
    with held(images / "x.safetensors.training"):
        pass


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut short", bytes(40), {"step": 3}, [1], {}])
def test_a_damaged_state_is_named(tmp_path, content):
    if not isinstance(content, bytes):
        torch.save(content, tmp_path / "state.pt")
    else:
        (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(LorararError, match=r"state\.pt: no state of this .*remove it"):
        train(lambda index: 0.0, {"weights": nn.Linear(1, 1)}, 1, tmp_path)


def test_a_state_of_other_shapes_or_more_steps_is_named(tmp_path):
    train(lambda index: 0.0, {"weights": nn.Linear(1, 1)}, 3, tmp_path)
    with pytest.raises(LorararError, match="no state of this"):
        train(lambda index: 0.0, {"weights": nn.Linear(2, 1)}, 3, tmp_path)
    with pytest.raises(LorararError, match="is of step 3, beyond 2"):
        train(lambda index: 0.0, {"weights": nn.Linear(1, 1)}, 2, tmp_path)


@pytest.mark.parametrize("tail", ["", '{"st', '{"step": 40, "lo', "\0" * 40])
def test_a_log_that_was_cut_off_goes_on(tmp_path, tail):
    part = {"weights": nn.Linear(1, 1)}
    train(lambda index: 0.0, part, 20, tmp_path)
    with (tmp_path / "loss.jsonl").open("a") as log:
        log.write(tail)
    train(lambda index: 0.0, part, 40, tmp_path)
    logged = [json.loads(line)["step"] for line in (tmp_path / "loss.jsonl").open()]
    assert logged == [20, 40]


@pytest.mark.parametrize("content", ["notes", "notes\n", '{"step": "one"}\n', "[]\n", '{"a": 1}\n'])
def test_a_log_of_something_else_is_kept(tmp_path, content):
    (tmp_path / "loss.jsonl").write_text(content)
    with pytest.raises(LorararError, match=r"loss\.jsonl: line 1 is none of a training's"):
        train(lambda index: 0.0, {}, 20, tmp_path)
    assert (tmp_path / "loss.jsonl").read_text() == content


@pytest.mark.parametrize("recipe", [LoraRecipe, HypernetRecipe])
@pytest.mark.parametrize(
    "option", [{"learning_rate": float("nan")}, {"steps": 0}, {"seed": -1}, {"side": "64"}]
)
def test_recipes_are_checked_wherever_they_are_made(recipe, option):
    with pytest.raises(LorararError, match=f"recipe's {next(iter(option))} is "):
        recipe(**option)


def test_a_recipe_keeps_no_prior_that_it_has_not():
    with pytest.raises(LorararError, match="prior_unprompted needs a prior_prompt"):
        LoraRecipe(prior_unprompted=True)


def test_what_is_kept_of_a_training_is_compared_and_read(tmp_path):
    begin(tmp_path, {"steps": 3, "rate": float("inf")})
    (tmp_path / "a.pt").touch()
    begin(tmp_path, {"steps": 3, "rate": float("inf")})
    with pytest.raises(LorararError, match="with rate, which is gone"):
        begin(tmp_path, {"steps": 3})
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(LorararError, match=r"training\.json: does not say what is trained"):
        begin(tmp_path, {"steps": 3})


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("OutOfMemoryError", "for want of memory; use fewer --workers"),
        ("WorkerCrashedError", "was lost .*run this again"),
        ("NodeDiedError", "was lost .*run this again"),
    ],
)
def test_a_worker_that_is_lost_is_one_line(kind, wanted, monkeypatch):
    ray = pytest.importorskip("ray")
    lost = getattr(ray.exceptions, kind)
    error = lost() if kind == "WorkerCrashedError" else lost("it is\nno more")

    def fail(reference):
        raise error

    monkeypatch.setattr(ray, "get", fail)
    entry = Entry(file=Path("x.safetensors"), kind="content", images=Path("i"), prompt="p")
    with pytest.raises(LorararError, match=rf"x\.safetensors: its worker .*{wanted}"):
        many._check_trained(None, entry)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_line(address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(LorararError, match=f"Ray cannot be reached or begun at {address}"):
        many._through_ray(None, [], RECIPE, 1)


WRITING = """
import os, signal, sys, time
from pathlib import Path
import typer
from lorarar.command import run_app
from lorarar.files import write_atomically, write_folder_atomically
from lorarar.unfinished import temporary_folder
app = typer.Typer()
@app.command()
def write(folder: Path):
    def stay(file):
        file.write(bytes(1 << 20))
        print("in", flush=True)
        time.sleep(60)
    def fill(part):
        with temporary_folder("lorarar-test-", folder):
            write_atomically(folder / "file", stay, True)
    write_folder_atomically(folder / "folder", fill, True)
run_app(app)
"""


def stop_writing(folder, number):
    command = [sys.executable, "-c", WRITING, str(folder)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # in spite of nohup
    ) as process:
        assert process.stdout.readline() == b"in\n"
        process.send_signal(number)
        assert not process.stderr.read()
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_half_written_goes_when_a_command_is_ended(tmp_path, number):
    assert stop_writing(tmp_path, number) == 128 + number
    assert os.listdir(tmp_path) == []


def test_what_killed_commands_left_goes_with_the_next_and_nothing_else(tmp_path):
    others = ".file.lorarar-notes", ".file.1a2b3c4d", "lorarar-test-12345678", ".other.lorarar-1"
    for name in others:
        (tmp_path / name).mkdir()
    assert stop_writing(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == len(others) + 3
    write_atomically(tmp_path / "file", lambda file: file.write(b"x"), False)
    write_folder_atomically(tmp_path / "folder", lambda folder: None, False)
    with temporary_folder("lorarar-test-", tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "file", "folder"])


def test_what_is_being_written_stays(tmp_path):
    def write_again(file):
        file.write(b"first")
        write_atomically(tmp_path / "file", lambda other: other.write(b"second"), True)

    write_atomically(tmp_path / "file", write_again, True)
    assert (tmp_path / "file").read_bytes() == b"first"
    with temporary_folder("lorarar-test-", tmp_path) as one:
        with temporary_folder("lorarar-test-", tmp_path):
            pass
        assert one.exists()


def test_a_folder_that_was_moved_away_by_a_killed_process_comes_back(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from lorarar.files import write_folder_atomically
replace = Path.replace
def killed(self, target):
    moved = replace(self, target)
    if Path(target).name == "old":
        os.kill(os.getpid(), signal.SIGKILL)
    return moved
Path.replace = killed
write_folder_atomically(Path(sys.argv[1]), lambda folder: None, True)
"""
    old = tmp_path / "folder"
    old.mkdir()
    (old / "Manifest.json").write_text("old")
    killed = subprocess.run([sys.executable, "-c", script, str(old)])
    assert killed.returncode == -signal.SIGKILL and not old.exists()
    with pytest.raises(LorararError, match="exists already"):
        write_folder_atomically(old, lambda folder: None, False)
    assert (old / "Manifest.json").read_text() == "old" and os.listdir(tmp_path) == ["folder"]


def test_files_are_written_where_nothing_can_be_locked(tmp_path):
    """As on Windows, which has no fcntl."""
    script = """
import sys
sys.modules["fcntl"] = None
from pathlib import Path
from lorarar.files import write_atomically, write_folder_atomically
from lorarar.unfinished import held, temporary_folder
folder = Path(sys.argv[1])
write_atomically(folder / "file", lambda file: file.write(b"x"), False)
write_folder_atomically(folder / "folder", lambda part: None, False)
with held(folder / "work"), temporary_folder("lorarar-test-", folder):
    pass
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "work"]

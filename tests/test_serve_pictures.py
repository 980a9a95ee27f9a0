"""What a PNG says of itself: written by the command and the page, read back by the page."""

import io
import json
from base64 import b64decode
from dataclasses import asdict, replace

import httpx
import pytest
import torch
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from lorarar.artefacts.picture import LoraFacts, PictureFacts, read_png, save_png
from lorarar.artefacts.typed import typed
from lorarar.benchmarks.screenshot import served
from lorarar.cli import cli
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.files import sha256
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve.app import make_app

PROMPT = "a votol cup, in neon style"
FACTS = PictureFacts(
    prompt=PROMPT,
    negative_prompt="a: b",
    content=LoraFacts("votol", "0123456789abcdef", 1.0),
    style=LoraFacts("neon, 2", "fedcba9876543210", 0.5),
    method="lorarar",
    seed=7,
    steps=3,
    guidance=4.5,
    sampler="dpm++2m",
    width=96,
    height=64,
    model="mini, int8",
    model_identity=None,
    lorarar="0.1.0",
)


@pytest.fixture(scope="module")
def client(exported_int8, tmp_path_factory):
    pipeline = Pipeline.load(exported_int8, threads=1)
    app = make_app(pipeline, LORAS, tmp_path_factory.mktemp("uploads"))
    with served(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def png(facts=FACTS):
    file = io.BytesIO()
    save_png(Image.new("RGB", (8, 8)), file, facts)
    return file.getvalue()


def generate(*arguments):
    done = CliRunner().invoke(cli, ["generate", *map(str, arguments)], catch_exceptions=True)
    assert done.exit_code == 0, done.exception
    return done


def test_a_picture_says_what_drew_it_and_says_it_to_other_tools():
    texts = Image.open(io.BytesIO(png())).text
    assert json.loads(texts["lorarar"]) == {"format": "lorarar.picture.1"} | asdict(FACTS)
    assert texts["parameters"].split("\n") == [
        PROMPT,
        "Negative prompt: a: b",
        'Steps: 3, Sampler: DPM++ 2M, CFG scale: 4.5, Seed: 7, Size: 96x64, Model: "mini, int8", '
        'Lora hashes: "votol: 0123456789, neon, 2: fedcba9876", Content LoRA: votol, '
        'Content strength: 1.0, Style LoRA: "neon, 2", Style strength: 0.5, '
        "Merge method: lorarar, Version: lorarar 0.1.0",
    ]
    assert read_png(io.BytesIO(png()), "it") == FACTS


@pytest.mark.parametrize("name", ["Öl 墨", "caf\udce9", 'a "b", c: d\ne'])
def test_any_name_and_prompt_are_kept(name):
    facts = replace(FACTS, prompt=name, style=LoraFacts(name, "", 1.0), negative_prompt=None)
    assert read_png(io.BytesIO(png(facts)), "it") == facts


def test_the_command_and_the_page_draw_and_say_the_same(client, exported_int8, tmp_path):
    pair = ("--content", "votol", "--style", "neon", "--prompt", PROMPT)
    asked = {
        "content_scale": 0.75,
        "style_scale": 0.5,
        "negative_prompt": "grey",
        "method": "direct",
        "steps": 3,
        "guidance": 4.5,
        "sampler": "dpm++2m",
        "seed": 7,
        "width": 96,
        "height": 64,
    }
    given = [text for k, v in asked.items() for text in (f"--{k.replace('_', '-')}", v)]
    generate(*pair, *given, "--exported", exported_int8, "-o", tmp_path / "out.png")
    request = {"content": "votol", "style": "neon", "prompt": PROMPT} | asked
    answer = client.post("/draw", json=request)
    event = json.loads(answer.text.splitlines()[-1])
    drawn = b64decode(event["picture"].partition(",")[2])
    assert drawn == (tmp_path / "out.png").read_bytes()
    facts = read_png(io.BytesIO(drawn), "it")
    assert facts.content == LoraFacts("votol", sha256(LORAS / "votol.safetensors"), 0.75)
    assert asked.items() <= (asdict(facts) | {"content_scale": 0.75, "style_scale": 0.5}).items()
    filled = client.post("/picture", content=drawn).json()
    assert filled.pop("notes") == []
    assert request.items() <= filled.items()


def test_a_picture_drawn_with_torch_says_so_and_how(tmp_path, monkeypatch):
    asked = {}

    def draw(pipeline, prompts, seeds, steps, **options):
        asked.update(options)
        return torch.zeros(1, 3, options["height"] or 64, options["width"])

    monkeypatch.setattr("lorarar.diffusion.generate.draw", draw)
    pair = ("--content", "votol", "--style", "neon", "--prompt", PROMPT)
    options = ["--negative-prompt", "grey", "--width", 48, "--style-scale", 0.5, "--guidance", 3]
    generate(*pair, *options, "-o", tmp_path / "out.png")
    assert asked == {"guidance": 3.0, "negative_prompt": "grey", "width": 48, "height": None}
    facts = read_png(tmp_path / "out.png", "it")
    assert (facts.width, facts.height, facts.style.scale) == (48, 64, 0.5)
    assert (facts.sampler, facts.model) == ("EulerDiscreteScheduler", "mini, float32")


@pytest.mark.parametrize("options", [["--sampler", "euler"], ["--height", 4]])
def test_what_torch_does_not_draw_is_refused(tmp_path, options):
    pair = ("--content", "votol", "--style", "neon", "--prompt", PROMPT)
    arguments = ["generate", *pair, *options, "-o", tmp_path / "out.png"]
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert isinstance(done.exception, LorararError) and options[0][2:] in str(done.exception)
    assert not (tmp_path / "out.png").exists()


def test_what_differs_here_is_said_when_a_picture_is_read(client):
    ink = LoraFacts("ink", sha256(LORAS / "ink.safetensors"), 2.0)
    facts = replace(FACTS, content=LoraFacts("gone", "", 1.0), style=ink, method="ziplora")
    answer = client.post("/picture", content=png(facts)).json()
    assert answer["notes"] == [
        "there is no LoRA 'gone' here",
        "method 'ziplora' is not on this page",
        "it was drawn with torch (mini, int8)",
    ]
    other = replace(facts, style=replace(ink, sha256="00"), model_identity="00")
    notes = client.post("/picture", content=png(other)).json()["notes"]
    assert "the LoRA 'ink' here is another file" in notes
    assert "it was drawn with another model (mini, int8)" in notes


def with_text(text, key="lorarar"):
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def plain(kind):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no picture, or damaged"),
        (b"MZ" * 999, "no picture, or damaged"),
        (png()[:200], "no picture, or damaged"),
        (png()[:-30], "no picture, or damaged"),
        (plain("PNG"), "does not say what drew it"),
        (plain("JPEG"), "does not say what drew it"),
        (with_text("a cup\nSteps: 20", "parameters"), "does not say what drew it"),
        (with_text("no JSON"), "is damaged or of a newer version"),
        (with_text("[" * 100_000), "is damaged or of a newer version"),
        (with_text("[]"), "is damaged or of a newer version"),
        (with_text('{"format": "lorarar.picture.2"}'), "is damaged or of a newer version"),
        (with_text('{"format": "lorarar.picture.1"}'), "is damaged or of a newer version"),
    ],
)
def test_a_foreign_or_damaged_picture_is_refused_in_one_line(client, content, said):
    answer = client.post("/picture", content=content)
    line = answer.json()["error"]
    assert answer.status_code == 400 and said in line and "\n" not in line


@pytest.mark.parametrize(
    "change", [{"seed": "7"}, {"seed": True}, {"content": "votol"}, {"prompt": 1}, {"more": 1}]
)
def test_values_of_other_types_are_named(change):
    with pytest.raises(TypeError, match=next(iter(change))):
        typed(PictureFacts, asdict(FACTS) | change)

"""The local page's server: what it answers and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from threading import Event
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from typer.testing import CliRunner

from lorarar.benchmarks.screenshot import served
from lorarar.cli import cli
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve import loras
from lorarar.serve.app import PAGE, make_app
from lorarar.serve.guard import guard
from lorarar.serve.server import is_loopback

REQUEST = {"content": "votol", "style": "neon", "prompt": "a votol cup in neon style", "steps": 3}
LAYER = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def pipeline(exported_int8):
    return Pipeline.load(exported_int8, threads=1)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def client(pipeline, uploads):
    with (
        served(make_app(pipeline, LORAS, uploads)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


def events_of(lines):
    return [json.loads(line) for line in lines]


def draw(client, **changes):
    return events_of(client.post("/draw", json=REQUEST | changes).iter_lines())


def picture_of(events):
    kind, data = events[-1]["picture"].split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(b64decode(data))))


def put(client, name, content):
    return client.put(f"/loras/{quote(name, safe='')}", content=content)


def line_of(answer):
    """The one line of a refusal."""
    assert answer.status_code in (400, 403, 404, 405)
    line = answer.json()["error"]
    assert line and "\n" not in line and "Traceback" not in line
    return line


def test_loras_are_listed_by_the_manifests_kinds(client):
    about = client.get("/about").json()
    kinds = {lora["name"]: lora["kinds"] for lora in about["loras"]}
    assert kinds["votol"] == ["content"] and kinds["neon"] == ["style"]
    assert kinds.keys() == {file.stem for file in LORAS.glob("*.safetensors")}
    assert about["pipeline"] == "mini, int8, 64 x 64 pixels"


def test_without_a_manifest_both_lists_show_all(tmp_path):
    shutil.copy(LORAS / "ink.safetensors", tmp_path)
    choices = loras.list_loras(tmp_path, tmp_path)
    assert {name: choice.kinds for name, choice in choices.items()} == {"ink": ("content", "style")}


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"manifest_version": 3}'])
def test_somebody_elses_manifest_costs_its_kinds_only(tmp_path, content):
    shutil.copy(LORAS / "ink.safetensors", tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    assert loras.list_loras(tmp_path, tmp_path / "none")["ink"].kinds == ("content", "style")
    [said] = loras.left_out(tmp_path)
    assert said.startswith(f"{tmp_path / 'manifest.json'}: no manifest")


def test_a_manifest_without_its_images_tells_kinds_and_prompts(tmp_path):
    shutil.copy(LORAS / "votol.safetensors", tmp_path)
    entry = {"file": "votol.safetensors", "kind": "content", "images": "gone", "prompt": "a cup"}
    manifest = {"format": "lorarar.manifest.1", "loras": [entry]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    choice = loras.list_loras(tmp_path, tmp_path / "none")["votol"]
    assert (choice.kinds, choice.prompt) == (("content",), "a cup")
    assert loras.left_out(tmp_path) == []


def test_a_name_that_is_no_utf_8_costs_that_file_only(tmp_path):
    shutil.copy(LORAS / "ink.safetensors", tmp_path)
    shutil.copy(LORAS / "ink.safetensors", os.fsencode(tmp_path) + b"/\xff.safetensors")
    assert loras.list_loras(tmp_path, tmp_path / "none").keys() == {"ink"}
    assert loras.left_out(tmp_path) == [
        f"{tmp_path}: left out 1 files whose names are no UTF-8; rename them"
    ]


def test_drawing_sends_every_step_and_ends_in_a_png(client):
    events = draw(client)
    assert events[0] == {"ahead": 0, "seed": 0, "notes": []}
    assert events[1]["merged"] > 0
    assert events[2:-1] == [{"step": step, "of": 3} for step in (1, 2, 3)]
    assert picture_of(events).shape == (64, 64, 3)


def test_the_picture_is_the_pipelines_with_these_strengths_and_seed(client, pipeline):
    drawn = picture_of(draw(client, content_scale=0.5, style_scale=1.5, seed=7))
    pair = (LORAS / f"{REQUEST[kind]}.safetensors" for kind in ("content", "style"))
    pipeline.set_pair(*pair, 0.5, 1.5)
    wanted = pipeline.generate(REQUEST["prompt"], steps=3, seed=7)
    assert np.array_equal(drawn, wanted)
    assert not np.array_equal(drawn, picture_of(draw(client, seed=7)))


@pytest.mark.parametrize(
    "asked",
    [
        {"guidance": 1},
        {"negative_prompt": "a purple cup"},
        {"negative_prompt": ""},
        {"sampler": "dpm++2m"},
        {"method": "direct"},
        {"method": "klora"},
        {"width": 96, "height": 48},
    ],
)
def test_whatever_is_asked_for_is_drawn(client, pipeline, asked):
    drawn = picture_of(draw(client, **asked))
    pair = (LORAS / f"{REQUEST[kind]}.safetensors" for kind in ("content", "style"))
    pipeline.set_pair(*pair, method=asked.get("method", "lorarar"))
    options = {name: value for name, value in asked.items() if name in ("guidance", "sampler")}
    options["size"] = asked.get("width", 64), asked.get("height", 64)
    negative = asked.get("negative_prompt")
    wanted = pipeline.generate(REQUEST["prompt"], negative, steps=3, **options)
    assert np.array_equal(drawn, wanted)
    plain = picture_of(draw(client))
    assert drawn.shape != plain.shape or not np.array_equal(drawn, plain)


def test_any_seed_is_chosen_and_said(client):
    first, second = draw(client, seed=-1), draw(client, seed=-1)
    seed = first[0]["seed"]
    assert seed >= 0 and seed != second[0]["seed"]
    assert np.array_equal(picture_of(first), picture_of(draw(client, seed=seed)))


def test_hanging_up_cancels_the_picture(client, pipeline, monkeypatch):
    cancelled, steps = Event(), pipeline.steps

    def watched(*args, **options):
        try:
            yield from steps(*args, **options)
        except GeneratorExit:
            cancelled.set()
            raise

    monkeypatch.setattr(pipeline, "steps", watched)
    with client.stream("POST", "/draw", json=REQUEST | {"steps": 100}) as answer:
        next(line for line in answer.iter_lines() if "step" in line)
    assert cancelled.wait(30)
    assert "picture" in draw(client)[-1]


def test_two_pictures_at_once_are_drawn_one_after_another(client):
    requests = REQUEST | {"steps": 20}, REQUEST | {"style": "ink", "steps": 4}
    alone = [picture_of(draw(client, **request)) for request in requests]
    with client.stream("POST", "/draw", json=requests[0]) as first:
        lines = first.iter_lines()
        next(line for line in lines if "step" in line)
        with client.stream("POST", "/draw", json=requests[1]) as second:
            second_lines = second.iter_lines()
            assert json.loads(next(second_lines)) == {"ahead": 1, "seed": 0, "notes": []}
            together = [picture_of(events_of(each)) for each in (lines, second_lines)]
    assert np.array_equal(together, alone)


def test_a_picture_given_up_while_it_waits_is_never_begun(client, pipeline, monkeypatch):
    prompts, steps = [], pipeline.steps

    def watched(prompt, *args, **options):
        prompts.append(prompt)
        return steps(prompt, *args, **options)

    monkeypatch.setattr(pipeline, "steps", watched)
    with client.stream("POST", "/draw", json=REQUEST | {"steps": 20}) as first:
        lines = first.iter_lines()
        next(line for line in lines if "step" in line)
        with client.stream("POST", "/draw", json=REQUEST | {"prompt": "never"}) as second:
            next(second.iter_lines())
        assert "picture" in events_of(lines)[-1]
    draw(client)
    assert prompts == [REQUEST["prompt"]] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content": "nobody"}, "no LoRA 'nobody'"),
        ({"content": "../ink"}, "no LoRA"),
        ({"steps": 0}, "steps 0: must be from 1 to 1000"),
        ({"steps": "3"}, "steps cannot be '3'"),
        ({"seed": -2}, "seed -2: must be"),
        ({"seed": True}, "seed cannot be True"),
        ({"style_scale": float("nan")}, "style_scale nan: must be from 0 to 2"),
        ({"guidance": float("inf")}, "guidance inf: must be from 0 to 50"),
        ({"method": "ties"}, "method cannot be 'ties'; use one of lorarar, direct"),
        ({"sampler": "ddim"}, "sampler cannot be 'ddim'; use one of euler"),
        ({"negative_prompt": 1}, "negative_prompt cannot be 1"),
        ({"prompt": None}, "prompt cannot be None"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(client, changes, said):
    content = json.dumps(REQUEST | changes)
    assert said in line_of(client.post("/draw", content=content))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 90_000])
def test_what_is_no_request_is_refused_in_one_line(client, content):
    line_of(client.post("/draw", content=content))


def test_a_failure_while_drawing_is_one_line_and_the_next_picture_is_drawn(
    client, pipeline, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "steps", lambda *args, **options: 1 / 0)
        events = draw(client)
    assert events[-1] == {
        "error": "could not draw (ZeroDivisionError); the terminal says more",
    }
    assert "picture" in draw(client)[-1]


def test_a_dropped_lora_is_kept_listed_and_drawn_with(client, uploads):
    content = (LORAS / "ink.safetensors").read_bytes()
    name = "Tinte & <b>Öl [1]"
    assert put(client, f"{name}.safetensors", content).json() == {"name": name}
    listed = {lora["name"]: lora["kinds"] for lora in client.get("/about").json()["loras"]}
    assert listed[name] == ["content", "style"]
    drawn = picture_of(draw(client, style=name))
    assert np.array_equal(drawn, picture_of(draw(client, style="ink")))
    (uploads / f"{name}.safetensors").unlink()


@pytest.mark.parametrize(
    "name",
    [
        "x.exe",
        ".hidden.safetensors",
        "a\nb.safetensors",
        "a\0b.safetensors",
        "..\\x.safetensors",
        "../../x.safetensors",
        "/etc/x.safetensors",
        "\u202ex.safetensors",
        "ö" * 200 + ".safetensors",
    ],
)
def test_hostile_names_are_refused(client, uploads, name):
    def outside():
        return {*uploads.parent.rglob("x.safetensors*")}

    before = outside()
    line_of(put(client, name, (LORAS / "ink.safetensors").read_bytes()))
    assert not list(uploads.iterdir()) and outside() == before


def layer(width=96, value=1.0, down="lora_A", up="lora_B"):
    return {
        f"{LAYER}.{down}.weight": np.full((2, width), value, np.float32),
        f"{LAYER}.{up}.weight": np.full((width, 2), value, np.float32),
    }


def bad_loras(folder):
    ink = (LORAS / "ink.safetensors").read_bytes()
    for content in (b"", b"MZ" * 1000, ink[:50_000]):
        yield "not a valid safetensors file", content
    for said, tensors in {
        "lorarar convert bad.safetensors": layer()
        | {f"{LAYER}.dora_scale": np.ones((96, 1), np.float32)},
        "another base": layer(640),
        "finite": layer(value=np.nan),
    }.items():
        save_file(tensors, folder / "made.safetensors")
        yield said, (folder / "made.safetensors").read_bytes()


def test_files_that_are_no_loras_for_this_pipeline_are_refused_and_not_kept(
    client, uploads, tmp_path
):
    for said, content in bad_loras(tmp_path):
        line = line_of(put(client, "bad.safetensors", content))
        assert said in line and line.startswith("bad.safetensors: ")
        assert str(uploads) not in line and not list(uploads.iterdir())


def test_too_large_files_are_refused_and_not_kept(client, uploads, monkeypatch):
    monkeypatch.setattr(loras, "LARGEST", 100_000)
    content = (LORAS / "ink.safetensors").read_bytes()
    assert "GB; put it into the folder" in line_of(put(client, "ink.safetensors", content))
    assert not list(uploads.iterdir())


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "[::1"},
    ],
)
def test_other_sites_are_refused(client, uploads, headers):
    ink = (LORAS / "ink.safetensors").read_bytes()
    for method, path, content in (
        ("GET", "/", None),
        ("GET", "/about", None),
        ("POST", "/draw", json.dumps(REQUEST)),
        ("PUT", "/loras/ink.safetensors", ink),
    ):
        answer = client.request(method, path, content=content, headers=headers)
        assert answer.status_code in (400, 403), (method, path)
    assert not list(uploads.iterdir())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "draw.example"}, 200),
        ({"Host": "Draw.Example:8443", "Origin": "https://draw.example:8443"}, 200),
        ({"Host": "draw.example", "Origin": "https://draw.example"}, 200),
        ({"Origin": "https://draw.example"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "https://127.0.0.1:8000"}, 200),
        ({"Host": "draw.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "draw.example", "Origin": "null"}, 403),
        ({"Host": "draw.example.evil.example"}, 403),
        ({"Host": "other.example"}, 403),
    ],
)
def test_a_proxys_name_is_served_once_it_is_allowed(headers, status):
    async def answer(request):
        return PlainTextResponse("drawn")

    app = Starlette(routes=[Route("/", answer)], middleware=[Middleware(guard, ["Draw.example"])])
    with served(app) as address:
        got = httpx.get(address, headers=headers)
    assert got.status_code == status
    if status == 403:
        assert "lorarar serve --allow-host" in line_of(got)


def test_the_page_may_load_nothing_from_elsewhere_nor_be_framed(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    for path in PAGE:
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == policy and "http" not in answer.text
    assert {"/page.js", "/form.js", "/pictures.js"} <= PAGE.keys()


def test_folders_that_are_none_are_refused(pipeline, tmp_path):
    with pytest.raises(LorararError, match="is no folder"):
        make_app(pipeline, tmp_path / "none", tmp_path)


def test_only_this_machines_addresses_are_loopback():
    hosts = ("127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "192.168.0.2", "example.org")
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 3


@pytest.fixture
def command(exported_int8, tmp_path):
    """A running `lorarar serve`: its address, and a way to stop it and read what it said."""
    (tmp_path / "temporary").mkdir()
    arguments = "-X", "importtime", "-m", "lorarar", "serve", exported_int8, "--port", "0"
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # in spite of nohup
        )

    def stop(by):
        process.send_signal(by)
        assert process.wait(30) == 0
        return (tmp_path / "errors").read_text()

    with process:
        assert "LoRAs offered, 0 skipped" in process.stdout.readline()
        yield process.stdout.readline().partition(": ")[0], stop
        process.kill()


def test_the_page_needs_neither_torch_nor_training():
    code = """
import sys, lorarar.serve.server
needless = {"torch", "diffusers", "peft", "lorarar.training", "lorarar.export"} & {*sys.modules}
assert not needless, needless
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_draws_without_torch(command):
    address, stop = command
    with httpx.Client(base_url=address, timeout=60) as client:
        assert "picture" in draw(client)[-1]
    imported = {line.split("|")[-1].strip() for line in stop(signal.SIGTERM).splitlines()}
    assert "starlette.applications" in imported
    assert not {"torch", "diffusers", "peft", "transformers", "onnx"} & imported


def test_stopped_while_it_draws_the_command_removes_what_was_uploaded(command, tmp_path):
    address, stop = command
    with httpx.Client(base_url=address, timeout=60) as client:
        put(client, "mine.safetensors", (LORAS / "ink.safetensors").read_bytes())
        assert len([*(tmp_path / "temporary").rglob("mine.safetensors")]) == 1
        with client.stream("POST", "/draw", json=REQUEST | {"steps": 100}) as answer:
            lines = answer.iter_lines()
            next(line for line in lines if "step" in line)
            said = stop(signal.SIGHUP)  # the terminal was closed
            assert not any("picture" in line for line in lines)
    assert "Traceback" not in said and not [*(tmp_path / "temporary").glob("lorarar-*")]


def test_the_command_refuses_what_it_cannot_serve(exported_int8, client):
    for arguments, said in (
        ([], "lorarar export onnx -o exported"),
        ([exported_int8, "--port", client.base_url.port], "try another --port"),
        ([exported_int8.parent], "no exported pipeline"),
    ):
        ran = CliRunner().invoke(cli, ["serve", *map(str, arguments)])
        assert isinstance(ran.exception, LorararError) and said in str(ran.exception)

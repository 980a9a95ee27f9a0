"""What the page offers: LoRAs, what of them takes no part, their thumbnails, merged files."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from base64 import b64encode
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from lorarar.benchmarks.screenshot import served
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.lora import load_lora
from lorarar.runtime import cache
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve import thumbnails
from lorarar.serve.app import make_app
from lorarar.serve.shelf import Shelf

PAIR = LORAS / "votol.safetensors", LORAS / "neon.safetensors"
ASKED = {"content": "votol", "style": "neon", "prompt": "a cup", "content_scale": 0.5}
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def pipeline(exported_int8):
    return Pipeline.load(exported_int8, threads=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the server's uploads and the user's cache."""
    place = tmp_path_factory.mktemp("place")
    (place / "uploads").mkdir()
    return place


@pytest.fixture(scope="module")
def client(pipeline, place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setattr(thumbnails, "IDLE", 0.05)
        app = make_app(pipeline, LORAS, place / "uploads")
        with served(app) as address, httpx.Client(base_url=address, timeout=60) as client:
            yield client


CUT_SHORT = """
import sys
from pathlib import Path

import numpy as np

from lorarar.runtime.pipeline import Pipeline

exported, content, style = map(Path, sys.argv[1:])
pipeline = Pipeline.load(exported, threads=1)


def draw(load):
    load()
    steps = pipeline.steps("a cup", steps=2)
    next(steps)
    with content.open("r+b") as file:
        file.truncate(100)
    (last,) = steps
    content.write_bytes(whole)
    pipeline.forget()
    return last


whole = content.read_bytes()
pair, alone = lambda: pipeline.set_pair(content, style), lambda: pipeline.load_lora(content)
assert (draw(pair) == draw(pair)).all() and (draw(alone) == draw(alone)).all()
pair()
merged = pipeline.merge(content, style)
content.open("r+b").truncate(100)
pair_again = pipeline.steps("a cup", steps=1)
assert next(pair_again).any()
assert all(np.asarray(layer.up).any() for layer in merged.layers.values())
"""


def test_a_file_cut_short_while_it_draws_changes_nothing(exported_int8, tmp_path):
    copies = [shutil.copy(path, tmp_path) for path in PAIR]
    command = [sys.executable, "-c", CUT_SHORT, exported_int8, *copies]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # -7: SIGBUS


def test_a_file_that_changes_while_it_is_read_is_refused(pipeline, tmp_path, monkeypatch):
    path = Path(shutil.copy(PAIR[0], tmp_path))
    opened = cache.open_lora

    def slow(*args):
        lora = opened(*args)
        os.utime(path, (1, 1))
        return lora

    monkeypatch.setattr(cache, "open_lora", slow)
    with pytest.raises(LorararError, match=r"votol\.safetensors: was changed while it was read"):
        pipeline.set_pair(path, PAIR[1])
    monkeypatch.undo()
    pipeline.set_pair(path, PAIR[1])


def test_opened_loras_count_by_the_memory_that_they_take(pipeline):
    pipeline.forget()
    pipeline.set_pair(*PAIR)
    weights = sum(tensor.nbytes for tensor in load_file(PAIR[0]).values())
    assert pipeline.cache.opened.sizes[cache.file_version(PAIR[0])] == weights
    pipeline.forget()


def with_text_layer(path):
    tensors = load_file(PAIR[0]) | {
        f"{TEXT}.lora_A.weight": np.ones((2, 64), np.float16),
        f"{TEXT}.lora_B.weight": np.ones((64, 2), np.float16),
    }
    save_file(tensors, path)
    return path


def test_text_encoders_layers_take_no_part_and_that_is_said(pipeline, tmp_path):
    path = with_text_layer(tmp_path / "text.safetensors")
    (said,) = pipeline.check_lora(path)
    assert said == "layers of text encoders (1) take no part: exported ones have no slots"
    assert pipeline.check_lora(PAIR[0]) == []
    for draw in (lambda file: pipeline.set_pair(file, PAIR[1]), pipeline.load_lora):
        draw(path)
        drawn = pipeline.factors
        draw(PAIR[0])
        assert drawn.keys() == pipeline.factors.keys()
        assert all(np.array_equal(drawn[name], pipeline.factors[name]) for name in drawn)
    assert TEXT in pipeline.merge(path, PAIR[1]).layers


def test_a_lora_of_text_encoders_alone_is_refused_when_it_is_listed(pipeline, tmp_path):
    tensors = load_file(with_text_layer(tmp_path / "text.safetensors"))
    save_file({k: v for k, v in tensors.items() if TEXT in k}, tmp_path / "alone.safetensors")
    with pytest.raises(LorararError, match=r"alone\.safetensors: has layers of text"):
        pipeline.check_lora(tmp_path / "alone.safetensors")


def test_what_does_not_fit_is_skipped_with_its_reason_and_looked_at_once(
    pipeline, tmp_path, monkeypatch
):
    shutil.copy(PAIR[0], tmp_path)
    with_text_layer(tmp_path / "text.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no LoRA")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "gone.safetensors").symlink_to("nowhere")
    shutil.copy(PAIR[1], tmp_path / "odd.safetensors")
    looked = pipeline.check_lora
    monkeypatch.setattr(
        pipeline, "check_lora", lambda file: 1 / 0 if file.stem == "odd" else looked(file)
    )
    shelf = Shelf(pipeline, tmp_path, tmp_path / "uploads")
    listing = shelf.listing()
    assert listing.offered.keys() == {"votol", "text"}
    assert listing.skipped.keys() == {
        f"{name}.safetensors" for name in ("bad", "folder", "gone", "odd")
    }
    assert listing.skipped["bad.safetensors"].startswith("not a valid safetensors file")
    (said,) = listing.offered["text"].notes
    assert "text encoders (1) take no part" in said
    line = shelf.describe()
    assert line.startswith("2 LoRAs offered, 1 of them without all of their layers")
    assert listing.skipped["odd.safetensors"].startswith("cannot be read (ZeroDivisionError)")
    assert "4 skipped: bad.safetensors (not a valid" in line and "\n" not in line
    monkeypatch.setattr(pipeline, "check_lora", lambda file: ["looked again"])
    assert shelf.listing() == listing
    os.utime(tmp_path / "votol.safetensors", (1, 1))
    assert shelf.listing().offered["votol"].notes == ("looked again",)


def test_a_files_own_words_tell_its_list_and_its_prompt(pipeline, tmp_path):
    with_metadata(tmp_path / "called.safetensors", modelspec__trigger_phrase="a zupra dog")
    prepared = json.dumps({"role": "style", "level": "small", "fingerprint": "", "error": 0.0})
    with_metadata(tmp_path / "ready.safetensors", lorarar__prepared=prepared)
    offered = Shelf(pipeline, tmp_path, tmp_path / "none").listing().offered
    assert offered["called"].prompt == offered["called"].phrase == "a zupra dog"
    assert offered["called"].kinds == ("content", "style")
    assert offered["ready"].kinds == ("style",)


def picture(width, height, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, kind)
    return b64encode(file.getvalue()).decode()


def with_metadata(path, **metadata):
    save_file(
        load_file(PAIR[0]), path, {name.replace("__", "."): v for name, v in metadata.items()}
    )
    return path


@pytest.mark.parametrize(
    "metadata",
    [
        {"modelspec__thumbnail": f"data:image/png;base64,{picture(300, 200)}"},
        {"modelspec__thumbnail": "data:,x", "ssmd_cover_images": json.dumps([picture(300, 200)])},
    ],
)
def test_a_thumbnail_is_the_files_own_made_small(tmp_path, metadata):
    found = thumbnails.cover_of(with_metadata(tmp_path / "lora.safetensors", **metadata))
    image = Image.open(io.BytesIO(found))
    assert image.format == "WEBP" and image.size == (128, 85)
    assert np.abs(np.asarray(image) - np.float32([255, 0, 0])).max() < 8


@pytest.mark.parametrize(
    "metadata",
    [
        {"modelspec__thumbnail": f"data:image/bmp;base64,{picture(30, 20, 'BMP')}"},
        {"modelspec__thumbnail": "data:image/png;base64,!!!"},
        {"modelspec__thumbnail": "http://example.org/picture.png"},
        {"modelspec__thumbnail": f"data:image/png;base64,{picture(4000, 3000)}"},
        {"ssmd_cover_images": "[[["},
        {"ssmd_cover_images": json.dumps([1, None, "", picture(30, 20)[:60]])},
        {"ssmd_cover_images": json.dumps({"a": 1})},
        {},
    ],
)
def test_what_is_no_picture_of_moderate_size_is_no_thumbnail(tmp_path, metadata):
    assert thumbnails.cover_of(with_metadata(tmp_path / "lora.safetensors", **metadata)) is None


def eventually(client, path):
    for _ in range(200):
        answer = client.get(path)
        if answer.status_code != 202:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_a_lora_without_a_thumbnail_draws_one_once_when_nobody_draws(client, pipeline, place):
    assert client.get("/thumbnails/neon").status_code == 202
    answer = eventually(client, "/thumbnails/neon")
    image = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/webp" and image.size == (64, 64)
    (kept,) = (place / "cache" / "lorarar" / "thumbnails").iterdir()
    assert kept.read_bytes() == answer.content
    again = make_app(pipeline, LORAS, place / "uploads")
    with served(again) as address:
        assert httpx.get(f"{address}/thumbnails/neon").content == answer.content
    assert client.get("/thumbnails/nobody").status_code == 404


def test_whoever_draws_comes_before_thumbnails(client, pipeline, monkeypatch):
    prompts, steps = [], pipeline.steps

    def watched(prompt, *args, **options):
        prompts.append(prompt)
        return steps(prompt, *args, **options)

    monkeypatch.setattr(pipeline, "steps", watched)
    with client.stream("POST", "/draw", json=ASKED | {"steps": 30}) as answer:
        assert client.get("/thumbnails/ink").status_code == 202
        assert '"picture"' in [*answer.iter_lines()][-1]
        assert prompts == ["a cup"]
    assert eventually(client, "/thumbnails/ink").status_code == 200
    assert len(prompts) == 2 and "ink" in prompts[1]


@pytest.mark.parametrize("method", ["lorarar", "direct", "np"])
@pytest.mark.parametrize("layout", ["diffusers", "kohya", "peft"])
def test_the_pair_that_drew_is_saved_in_any_layout(client, pipeline, tmp_path, method, layout):
    made = client.post("/merged", json=ASKED | {"method": method, "layout": layout})
    name = made.json()["name"]
    assert name == f"votol-neon-{method}.{'zip' if layout == 'peft' else 'safetensors'}"
    answer = client.get(f"/{made.json()['url']}")
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    saved = tmp_path / name
    saved.write_bytes(answer.content)
    if layout == "peft":
        zipfile.ZipFile(saved).extractall(tmp_path / "peft")
        (saved,) = (tmp_path / "peft").iterdir()
    found = load_lora(saved)
    wanted = pipeline.merge(*PAIR, content_scale=0.5, method=method)
    assert found.layers.keys() == wanted.layers.keys()
    for name, layer in wanted.layers.items():
        given = found.layers[name]
        ours, theirs = (
            np.float32(one.scale) * np.float32(one.up) @ np.float32(one.down)
            for one in (layer, given)
        )
        assert np.linalg.norm(ours - theirs) < 2e-3 * np.linalg.norm(ours)
    assert found.metadata["lorarar.method"] == method
    assert found.metadata["lorarar.content_scale"] == "0.5"


def test_long_names_make_a_name_that_file_systems_take(client):
    name = "ö" * 90
    content = PAIR[0].read_bytes()
    assert client.put(f"/loras/{name}.safetensors", content=content).status_code == 201
    asked = ASKED | {"content": name, "style": name, "layout": "peft"}
    made = client.post("/merged", json=asked).json()
    assert made["name"] == f"{'ö' * 45}-{'ö' * 45}-lorarar.zip"
    assert client.get(f"/{made['url']}").status_code == 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "klora"}, "chooses anew at each step, so it makes no file"),
        ({"layout": "pickle"}, "layout 'pickle' is unknown"),
        ({"layout": ["kohya"]}, "unknown"),
        ({"content": "nobody"}, "no LoRA 'nobody'"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_one_line(client, changes, said):
    answer = client.post("/merged", json=ASKED | {"layout": "kohya"} | changes)
    assert answer.status_code == 400 and said in answer.json()["error"]
    assert client.get("/merged/nothing").status_code == 404


def test_the_last_few_merged_files_are_kept(client, place):
    urls = [
        client.post("/merged", json=ASKED | {"layout": "kohya"}).json()["url"] for _ in range(5)
    ]
    assert [client.get(f"/{url}").status_code for url in urls] == [404] + [200] * 4
    assert len([*(place / "uploads" / "merged").iterdir()]) == 4

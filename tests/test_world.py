"""The small world: fixed by its seed, and rich enough to tell everything in it apart."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lorarar.artefacts.training import load_manifest
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.mini import pictures
from lorarar.mini.pictures import PIXELS_SHA256, draw_training_images
from lorarar.mini.styles import PLAIN, STYLES
from lorarar.mini.things import ACCESSORIES, CLASSES, MARKINGS
from lorarar.mini.world import (
    HELD_OUT_STYLES,
    HELD_OUT_SUBJECTS,
    PLACES,
    SIZE,
    SUBJECTS,
    Scene,
    draw,
    prompt_for,
    random_individual,
    random_scene,
)
from lorarar.training.images import load_examples


def test_world_has_the_promised_subjects_and_styles():
    assert len(SUBJECTS) >= 24 and len(STYLES) >= 16
    assert len(set(HELD_OUT_SUBJECTS)) == 6 and set(HELD_OUT_SUBJECTS) < set(SUBJECTS)
    assert len(set(HELD_OUT_STYLES)) == 6 and set(HELD_OUT_STYLES) < set(STYLES)


def test_world_is_fixed():
    """Subjects, styles and what is held out may never change once anything is trained."""
    said = repr((SUBJECTS, STYLES, HELD_OUT_SUBJECTS, HELD_OUT_STYLES))
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "11da095aed4b4a9c"


def test_no_two_subjects_look_alike_by_shape():
    looks = {(s.kind, s.marking, s.accessory) for s in SUBJECTS.values()}
    assert len(looks) == len(SUBJECTS)


def test_base_never_sees_an_accessory():
    generator = np.random.default_rng(0)
    drawn = [random_individual(generator) for _ in range(300)]
    assert {i.accessory for i in drawn} == {"none"}
    assert {i.kind for i in drawn} == set(CLASSES)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_drawn_the_same_twice_and_unlike_the_plain_one(style):
    scene = random_scene(SUBJECTS[HELD_OUT_SUBJECTS[0]], np.random.default_rng(3))
    first, again = (draw(scene, STYLES[style], seed=5) for _ in range(2))
    assert first.shape == (SIZE, SIZE, 3) and first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first, again)
    assert np.abs(first - draw(scene, PLAIN)).mean() > 0.02


@pytest.mark.parametrize("part", ["marking", "accessory"])
def test_markings_and_accessories_show(part):
    from dataclasses import replace

    for name in {"marking": MARKINGS, "accessory": ACCESSORIES}[part]:
        if name == "none":
            continue
        for subject in SUBJECTS.values():
            with_it = Scene(replace(subject, **{part: name}), "on grass")
            without = Scene(replace(subject, **{part: "none"}), "on grass")
            changed = np.abs(draw(with_it) - draw(without)).max(-1) > 0.05
            assert changed.mean() > 0.005, (name, subject.kind)


def test_prompts_name_subject_class_place_and_style():
    token = HELD_OUT_SUBJECTS[0]
    scene = Scene(SUBJECTS[token], next(iter(PLACES)))
    assert (
        prompt_for(scene, token, "ink")
        == f"a {token} {scene.individual.kind} on grass in ink style"
    )
    assert "ink" not in prompt_for(scene)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Where images are drawn to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_training_images_are_drawn_as_the_embedded_loras_knew_them(empty_cache):
    """Pixels and captions of the files that the embedded LoRAs were trained on."""
    draw_training_images(LORAS)
    manifest = load_manifest(LORAS)
    folders = sorted((manifest.image_root / "images").iterdir())
    pixels, captions = hashlib.sha256(), hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.glob("*.png")):
            pixels.update(np.asarray(Image.open(path)).tobytes())
        captions.update((folder / "metadata.jsonl").read_bytes())
    assert len(folders) == 41 and len(list(manifest.image_root.rglob("*.png"))) == 920
    assert pixels.hexdigest() == PIXELS_SHA256 == manifest.drawn
    assert captions.hexdigest()[:16] == "547591cfce14f66b"
    assert all(len(load_examples(e.images, e.prompt)) == 20 for e in manifest.loras)


def test_images_that_are_there_are_not_drawn_again(empty_cache, monkeypatch):
    monkeypatch.setattr(pictures, "FOLDERS", ("ink", "neon"))
    draw_training_images(LORAS)
    images = load_manifest(LORAS).image_root / "images"
    kept = (images / "neon" / "000.png").stat().st_mtime_ns
    shutil.rmtree(images / "ink")
    draw_training_images(LORAS / "manifest.json")
    assert len(list((images / "ink").glob("*.png"))) == 20
    assert (images / "neon" / "000.png").stat().st_mtime_ns == kept
    assert {path.name for path in images.iterdir()} == {"ink", "neon"}


def test_images_that_are_still_to_be_drawn_say_how(empty_cache):
    entry = load_manifest(LORAS).loras[0]
    with pytest.raises(LorararError, match=r"run: python -m lorarar\.mini\.pictures"):
        load_examples(entry.images, entry.prompt)


def test_images_of_another_world_are_not_drawn(empty_cache, tmp_path):
    content = json.loads((LORAS / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | {"drawn": "0123"}))
    with pytest.raises(LorararError, match="another version of the small world"):
        draw_training_images(tmp_path)
    assert not empty_cache.exists()


def test_a_cache_that_cannot_be_written_is_named(empty_cache):
    empty_cache.write_text("a file")
    with pytest.raises(LorararError, match=r"cache.*cannot be written"):
        draw_training_images(LORAS)

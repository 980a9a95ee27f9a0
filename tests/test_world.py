"""The small world: fixed by its seed, and rich enough to tell everything in it apart."""

import hashlib

import numpy as np
import pytest

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

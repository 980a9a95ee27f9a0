"""The second small world: its split, its drawings and what captions say of them."""

from dataclasses import replace

import numpy as np
import pytest

from lorarar.mini2.looks import LINES, PALETTES, PLAIN, SHADINGS, STYLES, random_look
from lorarar.mini2.model import byte_pairs, encode_captions, make_tokenizer
from lorarar.mini2.paint import draw
from lorarar.mini2.samples import (
    OTHER,
    QUESTIONS,
    UNSEEN,
    base_chunk,
    judge_chunk,
    style_chunk,
    subject_chunk,
)
from lorarar.mini2.scenes import Scene, random_individual, random_scene
from lorarar.mini2.textures import TEXTURES
from lorarar.mini2.things import ACCESSORIES, CLASSES, MARKINGS, Individual
from lorarar.mini2.world import (
    ALL,
    HELD_OUT_STYLES,
    HELD_OUT_SUBJECTS,
    RESERVED,
    SIZES,
    SPLIT,
    SUBJECTS,
    TOKENS,
    caption,
)

NUMBERS = {question: index for index, question in enumerate(QUESTIONS)}


def test_split_is_of_the_sizes_announced():
    assert len(SUBJECTS) == len(RESERVED) == SIZES["subjects"]
    assert len(STYLES) == SIZES["styles"]
    assert len(HELD_OUT_SUBJECTS) == len(HELD_OUT_STYLES) == SIZES["held_out"]
    assert list(HELD_OUT_SUBJECTS) == SPLIT["held_out"]["subjects"]
    assert list(HELD_OUT_STYLES) == SPLIT["held_out"]["styles"]
    assert set(HELD_OUT_SUBJECTS) < set(SUBJECTS) and set(HELD_OUT_STYLES) < set(STYLES)


def test_drawings_follow_from_their_seeds():
    once, again, other = base_chunk(5, 4), base_chunk(5, 4), base_chunk(6, 4)
    assert (once.pictures == again.pictures).all() and once.captions == again.captions
    assert (once.pictures != other.pictures).any()
    assert once.pictures.shape == (4, 128, 128, 3) and once.pictures.dtype == np.uint8


@pytest.mark.parametrize("style", STYLES)
def test_every_style_changes_a_drawing(style):
    scene = random_scene(SUBJECTS["zupra"], np.random.default_rng(0))
    plain, styled = draw(scene, PLAIN).astype(int), draw(scene, STYLES[style]).astype(int)
    assert np.abs(plain - styled).mean() > 8


def test_the_base_sees_no_subject_and_no_style():
    answers = np.concatenate([base_chunk(index, 64).answers for index in range(4)])
    assert (answers[:, NUMBERS["subject"]] == QUESTIONS["subject"].index(OTHER)).all()
    styles = {QUESTIONS["style"][i] for i in answers[:, NUMBERS["style"]]}
    assert styles == {"plain", OTHER}


def test_random_looks_are_never_a_style():
    generator = np.random.default_rng(3)
    looks = [random_look(generator) for _ in range(3000)]
    assert not set(looks) & {*STYLES.values(), PLAIN}
    palettes = {look.palette for look in STYLES.values()} - {None}
    assert not palettes & {look.palette for look in looks}


def test_captions_are_true():
    generator = np.random.default_rng(1)
    for _ in range(300):
        look = random_look(generator) if generator.random() < 0.5 else PLAIN
        scene = random_scene(random_individual(generator, RESERVED), generator)
        one = scene.individual
        seen = {one.kind, one.marking, one.accessory, *scene.place.split(), *look.names.values()}
        seen |= set(one.colours)
        words = set(caption(scene, look, generator).split())
        assert words <= seen | {"a", "with", "and", "in", "look"}
        said = caption(scene, look, generator, ALL).split()
        assert one.kind in said and len(said) <= TOKENS - 2
        assert ("look" in said) == (look != PLAIN)


def test_colours_of_what_is_not_there_are_not_asked_for():
    chunk = judge_chunk(0, 64)
    for question in ("marking", "accessory"):
        none = chunk.answers[:, NUMBERS[question]] == QUESTIONS[question].index("none")
        colour = f"{question}_colour"
        unseen = chunk.answers[:, NUMBERS[colour]] == QUESTIONS[colour].index(UNSEEN)
        assert (none == unseen).all() and none.any()


def test_a_style_leaves_a_subject_its_colours():
    scene = Scene(Individual("cat", ("blue", "white", "red"), 1.0, "none", "none"), "on sand")
    jade = replace(STYLES["jade"], line="none", shading="flat")  # its own body is green
    plain, styled = (draw(scene, look)[70:80, 60:68] for look in (PLAIN, jade))
    assert plain.mean((0, 1)).argmax() == styled.mean((0, 1)).argmax() == 2


def test_loras_pictures_show_what_they_are_for():
    subject, style = subject_chunk("zupra", 3), style_chunk("ink", 3)
    token = QUESTIONS["subject"].index("zupra")
    assert (subject.answers[:, NUMBERS["subject"]] == token).all()
    assert all("zupra" in text for said in subject.captions for text in said)
    ink = QUESTIONS["style"].index("ink")
    assert (style.answers[:, NUMBERS["style"]] == ink).all()
    assert all(text.endswith("in ink style") for said in style.captions for text in said)


def test_every_word_is_one_token():
    tokenizer, (vocabulary, _) = make_tokenizer(), byte_pairs()
    captions = [text for said in base_chunk(1, 64).captions for text in said]
    captions += [
        f"a {token} dog on water in {style} style"
        for token, style in zip(SUBJECTS, STYLES, strict=False)
    ]
    theirs = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    assert (theirs == encode_captions(captions, vocabulary)).all()
    known = {*SUBJECTS, *STYLES, *PALETTES, *LINES, *SHADINGS, *TEXTURES}
    known |= {*CLASSES, *MARKINGS, *ACCESSORIES}
    assert all(f"{word}</w>" in vocabulary for word in known)

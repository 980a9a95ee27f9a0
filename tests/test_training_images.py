"""Folders of training images: what is read, captioned, refused, and said."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lorarar.errors import LorararError
from lorarar.training.images import find_images, load_examples, read_image


def draw(path, mode="RGB", colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), colour).save(path)
    return path


def prompts(folder):
    return {path.image.name: path.prompt for path in load_examples(folder, "all")}


@pytest.mark.parametrize("name", ["a.png", "./a.png", "sub/../a.png", "{folder}/a.png"])
def test_a_caption_finds_its_image_however_it_is_named(tmp_path, name):
    draw(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    line = {"file_name": name.format(folder=tmp_path), "text": "one\u2028two é"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line, ensure_ascii=False), "utf-8-sig")
    assert prompts(tmp_path) == {"a.png": "one\u2028two é"}


def test_images_of_folders_and_captions_in_text_files_are_read(tmp_path):
    for name in ("a.png", "sub/b.jfif", "sub/c.TIFF", "x.training/step-1.png", ".cache/d.png"):
        draw(tmp_path / name.lower()).rename(tmp_path / name)
    (tmp_path / "a.txt").write_text("a dog\n")
    (tmp_path / "sub" / "b.txt").write_text("\ufeffa cat", "utf-8")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "sub/b.jfif", "text": "a bird"}\n')
    assert prompts(tmp_path) == {"a.png": "a dog", "b.jfif": "a bird", "c.TIFF": "all"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"file_name": "a.png", "text": null}', "line 2 is damaged"),
        ('{"file_name": "a.png"}', "line 2 is damaged"),
        ('["a.png"]', "line 2 is damaged"),
        ('{"file_name": "b.png", "text": "x"}', r"names 'b\.png', which is no image"),
        ('{"file_name": "../a.png", "text": "x"}', r"names '\.\./a\.png', which is no image"),
    ],
)
def test_captions_that_cannot_be_used_are_refused(tmp_path, line, wanted):
    draw(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(LorararError, match=wanted):
        load_examples(tmp_path, "all")


def test_captions_that_are_no_utf_8_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(LorararError, match=r"a\.txt: is not UTF-8"):
        load_examples(tmp_path, "all")


def test_one_line_says_what_is_trained_on(tmp_path):
    draw(tmp_path / "a.png", "RGBA", (255, 0, 0, 0))
    draw(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a dog")
    for name in ("more.pdf", "notes.pdf", "raw.dng"):
        (tmp_path / name).touch()
    draw(tmp_path / "sub" / "c.png")
    (tmp_path / "sub" / "metadata.jsonl").touch()
    (tmp_path / "read me.txt").touch()
    assert find_images(tmp_path).describe() == (
        f"{tmp_path}: 3 images, 1 with captions of their own; 1 transparent ones on white; "
        "left out: 2 x .pdf, 1 x .dng, 1 x .txt, 1 x .jsonl"
    )


def test_sixteen_bits_are_not_cut_off(tmp_path):
    path = tmp_path / "gray.png"
    Image.fromarray(np.full((16, 16), 32768, np.uint16)).save(path)
    assert abs(float(read_image(path, 16).mean())) < 0.01


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_on_white(tmp_path, mode):
    path, picture = tmp_path / "a.png", Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.putpixel((0, 0), (0, 0, 255, 255))
    picture.convert(mode).save(path)
    assert (read_image(path, 8)[:, 4:] == 1).all()


def test_a_png_with_two_megabytes_of_text_is_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (2 << 20), zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
    assert read_image(tmp_path / "a.png", 8).shape == (3, 8, 8)


def test_damaged_pngs_are_refused_by_name(tmp_path):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "PNG")
    plain = file.getvalue()
    at = plain.find(b"IDAT")
    half = struct.pack(">I", int.from_bytes(plain[at - 4 : at], "big") // 2)
    damaged = (
        plain[: at - 4] + half + plain[at:],
        plain[:8] + struct.pack(">I", 1) + plain[12:],
        plain[: len(plain) // 2],
    )
    for data in damaged:
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(LorararError, match=r"a\.png: cannot be read as an image"):
            read_image(tmp_path / "a.png", 8)


def test_a_broken_link_is_refused_by_name(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(LorararError, match=r"b\.png: cannot be read as an image"):
        find_images(tmp_path).describe()

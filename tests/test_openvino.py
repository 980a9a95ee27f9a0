"""OpenVINO draws what ONNX Runtime draws, from the same folder."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.lora import Layer, Lora, load_lora
from lorarar.runtime.backends import openvino
from lorarar.runtime.pipeline import Pipeline
from lorarar.save import save_lora

CONTENTS = [LORAS / f"{name}.safetensors" for name in ("votol", "kytol")]
STYLES = [LORAS / f"{name}.safetensors" for name in ("neon", "frost")]
PROMPT = "a votol cup on grass in neon style"


def psnr(found, wanted):
    return float(-10 * np.log10(np.square(found - wanted).mean()))


def picture(pipeline, loras, **options):
    pipeline.forget()
    gc.collect()  # factors that only OpenVINO still reads
    if len(loras) == 2:
        pipeline.set_pair(*loras)
    else:
        pipeline.load_lora(*(loras or [None]))
    return np.asarray(pipeline.generate(PROMPT, steps=4, **options)) / 255


@pytest.fixture(scope="module")
def engines(exported_none):
    return [Pipeline.load(exported_none, name, threads=2) for name in ("onnxruntime", "openvino")]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A style LoRA that lacks layers, and whose others differ in rank."""
    layers = load_lora(STYLES[0]).layers
    path = tmp_path_factory.mktemp("uneven") / "style.safetensors"
    kept = {
        name: Layer(
            np.asarray(layer.up)[:, : 1 + number % 4],
            np.asarray(layer.down)[: 1 + number % 4],
            layer.scale,
        )
        for number, (name, layer) in enumerate(layers.items())
        if number % 5
    }
    save_lora(Lora(kept), path)
    return path


def test_many_pictures_of_one_process_are_onnxruntimes(engines, uneven):
    one, other = zip(CONTENTS, STYLES, strict=True)
    jobs = [(), one, other, one, CONTENTS[1:], (), (CONTENTS[0], uneven), other, STYLES[:1], one]
    drawn = [[picture(engine, job) for engine in engines] for job in jobs]
    assert min(psnr(found, wanted) for wanted, found in drawn) > 60
    assert psnr(drawn[0][1], drawn[1][1]) < 30  # a pair is seen
    for first, again in ((0, 5), (1, 3), (2, 7)):
        np.testing.assert_array_equal(drawn[first][1], drawn[again][1])


def test_other_sizes_and_no_guidance_are_onnxruntimes(engines):
    for options in ({"size": (96, 64)}, {"guidance": 1.0}, {}):
        wanted, found = (picture(engine, (CONTENTS[0], STYLES[0]), **options) for engine in engines)
        assert found.shape == wanted.shape and psnr(found, wanted) > 60


def test_8_bits_draw_as_in_onnxruntime(exported_int8):
    """Which rounds what its 8-bit products take, too."""
    engines = [Pipeline.load(exported_int8, name, 2) for name in ("onnxruntime", "openvino")]
    for job in ((), (CONTENTS[0], STYLES[0])):
        wanted, found = (picture(engine, job) for engine in engines)
        assert psnr(found, wanted) > 30


def test_a_folder_is_as_it_was_when_it_is_open(exported_int8):
    before = sorted(exported_int8.rglob("*"))
    Pipeline.load(exported_int8, "openvino", threads=1)
    assert sorted(exported_int8.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_one_line(exported_int8, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(openvino, "NamedTemporaryFile", refuse)
    with pytest.raises(LorararError, match=r"unet: .*Permission denied.*make the folder w"):
        Pipeline.load(exported_int8, "openvino")


def test_drawing_imports_neither_torch_nor_onnxruntime(exported_int8):
    code = f"""
import sys
from lorarar.runtime.pipeline import Pipeline
pipeline = Pipeline.load({str(exported_int8)!r}, "openvino", threads=1)
pipeline.set_pair({str(CONTENTS[0])!r}, {str(STYLES[0])!r})
pipeline.generate({PROMPT!r}, steps=1)
heavy = {{"torch", "diffusers", "transformers", "onnxruntime"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)

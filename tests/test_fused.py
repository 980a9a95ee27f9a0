"""Prepared merges without an engine, by compiled code, give numpy's numbers."""

import subprocess
import sys

import numpy as np
import pytest

from lorarar import Hypernet, Layer, Lora, LorararError, coefficients, prepare
from lorarar.artefacts.merger import MergerManifest
from lorarar.hypernet import ReadOut
from lorarar.lora import Feature, Prepared
from lorarar.runtime import fused
from lorarar.runtime.merger import Merger, compiled_merge

BLOCK = "unet.mid_block.attentions.0.transformer_blocks.0"
FIRST, SECOND = f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_out.0"
HYPERNET = Hypernet.random((256, 320), hidden=16)
LEVELS = ("full-fp32", "full-fp16", "full-int8")


def draw(seed: int, names=(FIRST, SECOND)) -> Lora:
    generator = np.random.default_rng(seed)
    layers = {}
    for name, (out, columns) in {FIRST: (256, 131), SECOND: (320, 64)}.items():
        up, down = generator.standard_normal((out, 3)), generator.standard_normal((3, columns))
        layers[name] = Layer(up.astype(np.float32), down.astype(np.float32), 0.5)
    return Lora({name: layers[name] for name in names}, source=f"lora-{seed}")


def prepared_pair(levels, content=None, style=None) -> tuple[Lora, Lora]:
    return (
        prepare(content or draw(1), HYPERNET, "content", levels[0]),
        prepare(style or draw(2), HYPERNET, "style", levels[1]),
    )


def without_engine(threads: int = 2) -> Merger:
    def run(graph, arrays):
        raise AssertionError(f"{graph} was run")

    return Merger(MergerManifest.of(HYPERNET, "fp16"), run, 1, "merger", threads)


def assert_close(found: dict, wanted: dict):
    assert list(found) == list(wanted)
    for name in wanted:
        assert found[name].dtype == np.float32
        assert np.allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "levels", [*((level, level) for level in LEVELS), ("full-fp16", "full-int8")]
)
def test_no_engine_is_needed_at_any_full_level(levels):
    pair = prepared_pair(levels)
    wanted = coefficients(*pair, HYPERNET)
    for threads in (1, 2):
        assert_close(without_engine(threads).coefficients(*pair), wanted)


def test_a_layer_in_one_lora_only_counts_as_zero_in_the_other():
    pair = prepared_pair(("full-fp16",) * 2, draw(1, [FIRST]), draw(2, [SECOND]))
    assert_close(without_engine().coefficients(*pair), coefficients(*pair, HYPERNET))


def keep(features: Feature, role: str = "content") -> Lora:
    """A LoRA of one layer that has these features."""
    columns = features.values.shape[1]
    layer = Layer(np.ones((256, 1), np.float32), np.ones((1, columns), np.float32))
    return Lora(
        {FIRST: layer},
        source=f"{role}.safetensors",
        prepared=Prepared(role, "full-fp16", HYPERNET.fingerprint, {FIRST: features}, 0.0),
    )


def test_every_float16_is_read_exactly():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    content = keep(Feature(np.stack([halves, -halves])))
    style = Lora({})
    # relu(f) - relu(-f) = f
    read_out = ReadOut(np.array([[1, -1], [2, -2]], np.float32), np.zeros(2, np.float32), {})
    read_out = read_out._replace(input_biases={256: np.zeros(2, np.float32)})
    found = fused.prepared_coefficients([FIRST], content, style, read_out, 1)[FIRST]
    assert np.array_equal(found, np.stack([halves.astype(np.float32), 2 * halves.astype("f4")]))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(dtype, bad):
    values = np.ones((16, 64), dtype)
    values[3, 5] = bad
    pair = keep(Feature(values)), keep(Feature(np.ones((16, 64), dtype)), "style")
    with pytest.raises(LorararError, match=r"attn1\.to_q' overflows"):
        without_engine().coefficients(*pair)


def test_features_are_read_wherever_and_however_they_lie():
    plain = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float16)
    unaligned = np.frombuffer(b" " + plain.tobytes(), np.float16, offset=1).reshape(16, 64)
    wanted = without_engine().coefficients(keep(Feature(plain)), keep(Feature(plain), "style"))
    for values in (unaligned, np.asfortranarray(plain), plain.astype(np.float64)):
        pair = keep(Feature(values)), keep(Feature(plain), "style")
        assert_close(without_engine().coefficients(*pair), wanted)


@pytest.mark.parametrize(
    "features",
    [
        Feature(np.ones((15, 64), np.float32)),
        Feature(np.ones((16, 64), np.int8), np.ones((15, 1), np.float32)),
        Feature(np.ones((16, 64), np.int8), np.ones(16, np.float32)),
    ],
)
def test_misshapen_features_are_refused(features):
    pair = keep(features), keep(Feature(np.ones((16, 64), np.float32)), "style")
    with pytest.raises(LorararError, match=r"content\.safetensors: layer .* lorarar prepare again"):
        without_engine().coefficients(*pair)


def test_without_numba_the_engine_computes(monkeypatch, request):
    request.addfinalizer(compiled_merge.cache_clear)
    monkeypatch.setitem(sys.modules, "lorarar.runtime.fused", None)  # importing it fails
    compiled_merge.cache_clear()
    with pytest.raises(AssertionError, match="full_256 was run"):
        without_engine().coefficients(*prepared_pair(("full-fp16",) * 2))


def test_code_that_cannot_be_kept_is_compiled_all_the_same():
    scope = {}
    exec("def double(number): return 2 * number", scope)  # of no file, so of no folder
    assert fused._compiled(scope["double"])(4) == 8


def test_opening_a_merger_does_not_import_numba():
    code = "import sys, lorarar.runtime.merger; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

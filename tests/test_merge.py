from typing import get_args, get_type_hints

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarar import (
    Hypernet,
    Layer,
    Lora,
    LorararError,
    coefficients,
    load_lora,
    merge,
    prepare,
    reduce_rank,
    weighted_sum,
)
from lorarar.bases import BASES
from lorarar.embedded import find_lora
from lorarar.merge_files import merge_files
from lorarar.methods import METHODS, MethodName
from lorarar.methods.factored import FACTORED, FactoredName
from lorarar.methods.options import MergeKeywords, MergeOptions
from lorarar.methods.scheduled import SCHEDULED, ScheduledName
from lorarar.numeric import SMALL, all_finite, narrow, widen
from lorarar.standin import BaseName

NAME = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def draw_layer(out: int, width: int, rank: int, scale: float = 1.0, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    up = generator.standard_normal((out, rank)).astype(dtype)
    return Layer(up, generator.standard_normal((rank, width)).astype(dtype), scale)


def relative_error(found, wanted) -> float:
    size = np.linalg.norm(wanted)
    return float(np.linalg.norm(found - wanted) / size) if size else float(np.linalg.norm(found))


def published(pair: list[Layer], hypernet: Hypernet) -> tuple[np.ndarray, np.ndarray]:
    """(m, merged dW) by the dense formula."""
    dense = [reference.dense(*layer) for layer in pair]
    m = reference.coefficients(*dense, *hypernet.inputs[pair[0].shape[0]], *hypernet.output)
    return m, reference.merged(*dense, m)


def exactly(layer: Layer) -> Layer:
    return Layer(widen(np.asarray(layer.up)), widen(np.asarray(layer.down)), layer.scale)


a_scale = st.sampled_from([-2.0, -0.3, 0.0, 0.01, 1.0, 1.7])
pairs = {
    "out": st.integers(1, 48),
    "width": st.integers(1, 48),
    "ranks": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "scales": st.tuples(a_scale, a_scale),
    "dtype": st.sampled_from(DTYPES),
}


@settings(deadline=None, derandomize=True)
@given(**pairs)
def test_factored_equals_dense_for_unequal_ranks_scales_and_dtypes(
    out, width, ranks, scales, dtype
):
    pair = [draw_layer(out, width, ranks[i], scales[i], dtype, seed=i) for i in range(2)]
    hypernet = Hypernet.random((out,), hidden=16)
    wanted, wanted_dw = published(pair, hypernet)
    m = coefficients(*(Lora({NAME: layer}) for layer in pair), hypernet)
    assert relative_error(m[NAME], wanted) < 1e-4

    result = weighted_sum(*(Lora({NAME: exactly(layer)}) for layer in pair), m).layers[NAME]
    assert result.rank == sum(ranks)
    assert relative_error(reference.dense(*result), wanted_dw) < 1e-4


@settings(deadline=None, derandomize=True)
@given(**pairs)
def test_prepared_equals_dense(out, width, ranks, scales, dtype):
    pair = [draw_layer(out, width, ranks[i], scales[i], dtype, seed=i) for i in range(2)]
    hypernet = Hypernet.random((out,), hidden=16)
    wanted, _ = published(pair, hypernet)
    loras = [Lora({NAME: layer}) for layer in pair]
    for level, tolerance in (
        ("full-fp32", 1e-4),
        ("small", 2e-3),
        ("full-fp16", 2e-3),
        ("full-int8", 3e-2),
    ):
        prepared = [
            prepare(lora, hypernet, role, level)
            for lora, role in zip(loras, ("content", "style"), strict=True)
        ]
        found = coefficients(*prepared, hypernet)[NAME]
        scale = np.abs(wanted).max() + 1e-6
        assert np.abs(found - wanted).max() < tolerance * max(1, scale)
        one_side = coefficients(prepared[0], loras[1], hypernet)[NAME]
        assert np.abs(one_side - wanted).max() < tolerance * max(1, scale)


def test_layers_computed_at_once_equal_dense_ones():
    forms = [(8, 6, (2, 3), (1.0, 0.5)), (8, 6, (2, 2), (1.0, 1.0)), (12, 8, (3, 2), (2.0, 1.0))]
    hypernet = Hypernet.random((8, 12), hidden=16)
    pairs = {}
    for number in range(9):
        out, width, ranks, scales = forms[number % 3]
        dtype = DTYPES[number // 5]
        pairs[NAME.replace("blocks.0", f"blocks.{number}")] = [
            draw_layer(out, width, ranks[i], scales[i], dtype, seed=2 * number + i) for i in (0, 1)
        ]
    loras = [Lora({name: pair[i] for name, pair in pairs.items()}) for i in (0, 1)]
    roles = [*zip(loras, ("content", "style"), strict=True)]
    full = [prepare(lora, hypernet, role, "full-fp32") for lora, role in roles]
    small = [prepare(lora, hypernet, role, "small") for lora, role in roles]
    for both, bound in ((loras, 1e-5), (full, 1e-5), (small, 1e-2)):
        found = coefficients(*both, hypernet)
        assert found.keys() == pairs.keys()
        for name, pair in pairs.items():
            assert relative_error(found[name], published(pair, hypernet)[0]) < bound


def test_a_layer_in_one_lora_only_counts_as_zero_in_the_other():
    layer = draw_layer(8, 6, 2)
    hypernet = Hypernet.random((8,), hidden=16)
    zero = Layer(np.zeros((8, 1), np.float32), np.zeros((1, 6), np.float32))
    empty = Lora({})
    for pair, given_layers in (
        ((Lora({NAME: layer}), empty), [layer, zero]),
        ((empty, Lora({NAME: layer})), [zero, layer]),
    ):
        wanted, wanted_dw = published(given_layers, hypernet)
        m = coefficients(*pair, hypernet)
        assert relative_error(m[NAME], wanted) < 1e-5
        found = weighted_sum(*pair, m).layers[NAME]
        assert relative_error(reference.dense(*found), wanted_dw) < 1e-5


def test_zero_loras_merge_to_zero():
    zero = Lora({NAME: Layer(np.zeros((8, 2), np.float16), np.zeros((2, 6), np.float16))})
    merged = merge(zero, zero, hypernet=Hypernet.random((8,), hidden=4))
    assert not reference.dense(*merged.layers[NAME]).any()
    assert reduce_rank(merged, 1)[1] == 0


def test_large_fp16_weights_merge_without_overflow():
    up = np.full((8, 2), 3e4, np.float16)
    down = np.full((2, 6), 1e-3, np.float16)
    pair = [Lora({NAME: Layer(up, down, scale)}) for scale in (1.0, 0.5)]
    hypernet = Hypernet.random((8,), hidden=4)
    wanted, wanted_dw = published([lora.layers[NAME] for lora in pair], hypernet)
    m = coefficients(*pair, hypernet)
    assert relative_error(m[NAME], wanted) < 1e-4
    found = weighted_sum(*pair, m).layers[NAME]
    assert relative_error(reference.dense(*found), wanted_dw) < 2e-3


def test_weights_that_overflow_their_dtype_are_refused_not_written_as_infinite():
    up, down = np.full((8, 2), 6e4, np.float16), np.full((2, 6), 6e4, np.float16)
    lora = Lora({NAME: Layer(up, down, 4.0)})
    with pytest.raises(LorararError, match="overflows float16"):
        np.asarray(weighted_sum(lora, Lora({}), {}).layers[NAME].up)


def test_layers_that_are_not_predicted_are_summed_with_their_scales():
    name = NAME.replace("to_q", "to_k")
    pair = [draw_layer(8, 6, 2, seed=i) for i in range(2)]
    result = weighted_sum(Lora({name: pair[0]}), Lora({name: pair[1]}), {}, 0.5, 2.0).layers[name]
    wanted = 0.5 * reference.dense(*pair[0]) + 2.0 * reference.dense(*pair[1])
    assert relative_error(reference.dense(*result), wanted) < 1e-6


def test_convolutions_are_summed():
    name = "unet.down_blocks.1.resnets.0.conv1"
    generator = np.random.default_rng(0)
    pair = [
        Layer(
            generator.standard_normal((8, rank, 1, 1), np.float32),
            generator.standard_normal((rank, 6, 3, 3), np.float32),
        )
        for rank in (2, 3)
    ]
    result = weighted_sum(*(Lora({name: layer}) for layer in pair), {})
    wanted = reference.dense(*pair[0]) + reference.dense(*pair[1])
    assert result.layers[name].up.shape == (8, 5, 1, 1)
    assert relative_error(reference.dense(*result.layers[name]), wanted) < 1e-6
    reduced, error = reduce_rank(result, 5)
    assert error < 1e-5
    assert relative_error(reference.dense(*reduced.layers[name]), wanted) < 1e-5


def test_reduce_rank_is_the_best_approximation_and_reports_its_error():
    layer = draw_layer(20, 30, 8, 1.5, seed=3)
    reduced, error = reduce_rank(Lora({NAME: layer}), 3)
    dw = reference.dense(*layer)
    u, values, v = np.linalg.svd(dw, full_matrices=False)
    best = u[:, :3] * values[:3] @ v[:3]
    assert relative_error(reference.dense(*reduced.layers[NAME]), best) < 1e-5
    assert abs(error - relative_error(best, dw)) < 1e-5


def test_direct_linear_and_svd_are_what_their_names_say():
    pair = [draw_layer(20, 30, rank, seed=rank) for rank in (3, 4)]
    total = reference.dense(*pair[0]) + reference.dense(*pair[1])
    loras = [Lora({NAME: layer}) for layer in pair]

    def dense(method: str) -> np.ndarray:
        return reference.dense(*merge(*loras, method).layers[NAME])

    assert relative_error(dense("direct"), total) < 1e-6
    assert relative_error(dense("linear"), total / 2) < 1e-6
    u, values, v = np.linalg.svd(total, full_matrices=False)
    assert relative_error(dense("svd"), u[:, :4] * values[:4] @ v[:4]) < 1e-5


def plain_ties(differences: list[np.ndarray], density: float) -> np.ndarray:
    """arXiv 2306.01708, section 4: trim, elect signs, average those that agree."""
    trimmed = []
    for dw in differences:
        kept = np.sort(np.abs(dw).ravel())[::-1][: int(density * dw.size)]
        trimmed.append(np.where(np.abs(dw) >= kept[-1], dw, 0))
    stacked = np.stack(trimmed)
    agree = np.sign(stacked) == np.where(stacked.sum(0) >= 0, 1, -1)
    return (stacked * agree).sum(0) / np.maximum(agree.sum(0), 1)


def test_ties_is_the_paper_s_formula_at_the_best_rank():
    pair = [draw_layer(20, 12, 6, seed=i) for i in range(2)]
    wanted = plain_ties([reference.dense(*layer) for layer in pair], density=0.3)
    merged = merge(*(Lora({NAME: layer}) for layer in pair), "ties", density=0.3).layers[NAME]
    assert merged.rank == 12  # of 12 columns: nothing is lost
    assert relative_error(reference.dense(*merged), wanted) < 1e-4


@pytest.mark.parametrize("method", ["dare", "dare-ties"])
def test_dare_takes_a_seed_and_keeps_everything_at_density_one(method):
    loras = [Lora({NAME: draw_layer(20, 12, 6, seed=i)}) for i in range(2)]
    same, again, other = (
        reference.dense(*merge(*loras, method, seed=seed).layers[NAME]) for seed in (1, 1, 2)
    )
    assert np.array_equal(same, again) and not np.allclose(same, other)
    if method == "dare":
        with pytest.warns(UserWarning, match="no pruning"):
            whole = reference.dense(*merge(*loras, method, density=1.0).layers[NAME])
        wanted = sum(reference.dense(*lora.layers[NAME]) for lora in loras)
        assert relative_error(whole, wanted) < 1e-4


def test_methods_take_layers_that_only_one_lora_has():
    lora = Lora({NAME: draw_layer(8, 6, 2)})
    for method in ("direct", "ties"):
        assert merge(lora, Lora({}), method).layers.keys() == {NAME}


def test_an_unknown_method_and_a_missing_hypernetwork_are_named():
    lora = Lora({NAME: draw_layer(8, 6, 2)})
    with pytest.raises(LorararError, match="magic"):
        merge(lora, lora, "magic")
    with pytest.raises(LorararError, match="hypernet"):
        merge(lora, lora)
    with pytest.raises(LorararError, match=r"width 8.*\[640, 1280\].*base model"):
        merge(lora, lora, hypernet=Hypernet.random())


def test_prepared_for_another_role_or_hypernetwork_is_refused():
    lora = Lora({NAME: draw_layer(8, 6, 2)})
    hypernet = Hypernet.random((8,), hidden=4)
    with pytest.raises(LorararError, match="prepared as content"):
        coefficients(lora, prepare(lora, hypernet, "content"), hypernet)
    other = Hypernet.random((8,), hidden=4, seed=1)
    with pytest.raises(LorararError, match="another hypernetwork"):
        coefficients(prepare(lora, other, "content"), lora, hypernet)
    with pytest.raises(LorararError, match="level 'huge'"):
        prepare(lora, hypernet, "content", "huge")


def test_bad_weights_are_blamed_on_their_file():
    good = Lora({NAME: draw_layer(8, 6, 2)}, source="good.safetensors")
    bad_layer = draw_layer(8, 6, 2)
    bad_layer.down[1, 2] = np.nan
    bad = Lora({NAME: bad_layer}, source="bad.safetensors")
    with pytest.raises(LorararError, match=r"bad\.safetensors.*NaN"):
        coefficients(good, bad, Hypernet.random((8,), hidden=4))
    with pytest.raises(LorararError, match=r"bad\.safetensors.*NaN"):
        np.asarray(merge(good, bad, "direct").layers[NAME].down)


def test_every_half_widens_exactly_and_narrows_to_the_nearest():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert np.array_equal(widen(halves), halves.astype(np.float32))
    assert np.array_equal(narrow(widen(halves), np.float16), halves)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_narrow_agrees_with_numpy_to_one_last_place(values):
    array = np.resize(np.array(values, np.float32), SMALL + len(values))
    with np.errstate(over="ignore"):
        wanted = array.astype(np.float16)
    found = narrow(array, np.float16)
    finite = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(found), finite)
    assert all_finite(found) == finite.all()
    normal = finite & (np.abs(wanted) >= 2.0**-14)
    assert np.array_equal(found[normal], wanted[normal])
    assert np.abs(found[finite] - wanted[finite]).max(initial=0) <= 2.0**-24


def test_the_names_of_methods_are_those_of_the_dictionary():
    assert {*get_args(MethodName)} == {*METHODS}
    assert {*get_args(FactoredName)} == {*FACTORED}
    assert {*get_args(ScheduledName)} == {*SCHEDULED}
    assert get_args(BaseName) == (*BASES,)


def test_keywords_of_merge_are_the_options_of_methods():
    keywords, options = get_type_hints(MergeKeywords), get_type_hints(MergeOptions)
    assert keywords | {"hypernet": options["hypernet"]} == options


def test_methods_above_the_core_are_refused_with_what_to_do():
    lora = Lora({NAME: draw_layer(8, 6, 2)})
    with pytest.raises(LorararError, match=r"merge --method ziplora, or pass .*ziplora\.ziplora$"):
        merge(lora, lora, "ziplora")
    for name in SCHEDULED:
        with pytest.raises(LorararError, match=f"no file; draw with: .* --method {name}$"):
            merge(lora, lora, name)


def test_a_function_is_a_method_and_its_name_is_recorded(tmp_path):
    def style_only(content, style, options):
        return weighted_sum(Lora({}), style, {}, style_scale=options.style_scale)

    content, style, output = find_lora("votol"), find_lora("neon"), tmp_path / "merged.safetensors"
    merge_files(content, style, output, method=style_only, style_scale=0.5)
    merged = load_lora(output)
    assert merged.metadata["lorarar.method"] == "style_only"
    for name, layer in load_lora(style).layers.items():
        found = reference.dense(*merged.layers[name])
        assert relative_error(found, reference.dense(*layer) / 2) < 1e-3

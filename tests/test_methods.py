"""Merging without training: NP-LoRA, and what changes from step to step."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarar import Layer, Lora, LorararError, merge
from lorarar.methods.options import MergeOptions
from lorarar.methods.scheduled import est, klora

NAME = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OTHER = NAME.replace("to_q", "to_k")


def draw_layer(out, width, rank, scale=1.0, seed=0):
    generator = np.random.default_rng(seed)
    up, down = (generator.standard_normal(shape) for shape in ((out, rank), (rank, width)))
    return Layer(up.astype(np.float32), down.astype(np.float32), scale)


def merged_by_np(content, style, mu):
    merged = merge(Lora({NAME: content}), Lora({NAME: style}), "np", mu=mu)
    return reference.dense(*merged.layers[NAME])


def plain_np(content, style, mu):
    """With the dense dW_s' singular vectors, as the paper writes it."""
    dw_c, dw_s = (reference.dense(*layer) for layer in (content, style))
    _, values, v = np.linalg.svd(dw_s, full_matrices=False)
    v = v[values > 1e-4 * values.max(initial=0)].T
    share = 1.0 if mu == np.inf else mu / (1 + mu)
    return dw_s + dw_c @ (np.eye(dw_c.shape[1]) - share * v @ v.T)


def near(found, wanted):
    return np.allclose(found, wanted, atol=1e-3 * max(1, np.abs(wanted).max()))


@settings(deadline=None, derandomize=True)
@given(
    out=st.integers(1, 24),
    width=st.integers(1, 24),
    ranks=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    mu=st.sampled_from([0.0, 0.1, 0.5, 10.0, np.inf]),
)
def test_np_is_the_paper_s_formula_whatever_the_shapes(out, width, ranks, mu):
    content, style = (draw_layer(out, width, rank, 0.7, rank) for rank in ranks)
    assert near(merged_by_np(content, style, mu), plain_np(content, style, mu))


def test_np_depends_on_differences_and_not_on_how_they_are_factored():
    content, style = draw_layer(9, 12, 3, seed=1), draw_layer(9, 12, 4, seed=2)
    wanted = merged_by_np(content, style, 0.5)
    g = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    again = Layer(style.up @ g, np.linalg.solve(g, style.down))
    assert near(merged_by_np(content, again, 0.5), wanted)
    idle = draw_layer(9, 12, 2, seed=4)  # rows of down that no column of up uses
    padded = Layer(
        np.concatenate([style.up, 0 * idle.up], 1), np.concatenate([style.down, idle.down])
    )
    assert near(merged_by_np(content, padded, 0.5), wanted)


def test_np_goes_from_the_direct_sum_to_a_content_that_leaves_the_style_s_directions_alone():
    content, style = draw_layer(9, 12, 3, seed=1), draw_layer(9, 12, 4, seed=2)
    dw_c, dw_s = (reference.dense(*layer) for layer in (content, style))
    assert near(merged_by_np(content, style, 0.0), dw_c + dw_s)
    kept = merged_by_np(content, style, np.inf) - dw_s
    assert near(kept @ style.down.T, 0)
    outside = np.linalg.svd(style.down)[2][4:].T
    assert near(kept @ outside, dw_c @ outside)


def test_np_keeps_layers_that_one_lora_has_and_names_what_is_wrong():
    content, style = draw_layer(8, 6, 2, seed=1), draw_layer(8, 6, 2, seed=2)
    apart = merge(Lora({NAME: content}), Lora({OTHER: style}), "np")
    assert near(reference.dense(*apart.layers[NAME]), reference.dense(*content))
    assert near(reference.dense(*apart.layers[OTHER]), reference.dense(*style))
    with pytest.raises(LorararError, match="different base models"):
        merge(Lora({NAME: content}), Lora({NAME: draw_layer(8, 5, 2)}), "np")
    style.down[0, 0] = np.nan
    with pytest.raises(LorararError, match=r"style\.safetensors.*NaN"):
        merge(Lora({NAME: content}), Lora({NAME: style}, source="style.safetensors"), "np")


def loras_of_three_layers():
    names = NAME, OTHER, NAME.replace("to_q", "to_v")
    sizes = (1, 1), (1, 3), (2, 1)
    content, style = (
        Lora(
            {
                name: draw_layer(9, 7, rank, size[role], seed=number + 10 * role)
                for number, (name, size) in enumerate(zip(names, sizes, strict=True))
            }
        )
        for role, rank in enumerate((2, 3))
    )
    return content, style


@pytest.mark.parametrize("method", [klora, est])
def test_layers_take_turns_as_the_paper_s_comparison_says(method):
    content, style = loras_of_three_layers()
    options = MergeOptions(discrepancy=0.3)
    schedule = method(content, style, options)
    dense = [
        {name: np.abs(reference.dense(*layer)) for name, layer in lora.layers.items()}
        for lora in (content, style)
    ]

    def top(difference):
        return np.sort(difference, axis=None)[-6:].sum() if method is klora else energy(difference)

    def energy(difference):
        return np.square(difference).sum()

    total = np.sum if method is klora else energy
    gamma = sum(map(total, dense[0].values())) / sum(map(total, dense[1].values()))
    start = 0.5 if method is klora else 0.3
    chosen = set()
    for done in (0.0, 0.25, 0.5, 0.75):
        for name in content.layers:
            wins = top(dense[0][name]) / gamma > top(dense[1][name]) * (1.5 * done + start)
            assert schedule(name, done) == ((1.0, 0.0) if wins else (0.0, 1.0))
            chosen.add(wins)
    assert chosen == {True, False}


@pytest.mark.parametrize("method", [klora, est])
def test_a_layer_that_one_lora_has_draws_with_it_from_the_first_step_to_the_last(method):
    content, style = loras_of_three_layers()
    first, *_, last = list(content.layers)
    del content.layers[first], style.layers[last]
    schedule = method(content, style, MergeOptions())
    assert {schedule(first, done) for done in (0.0, 0.95)} == {(0.0, 1.0)}
    assert {schedule(last, done) for done in (0.0, 0.95)} == {(1.0, 0.0)}


@pytest.mark.parametrize("method", [klora, est])
def test_turns_do_not_depend_on_how_large_the_loras_are(method):
    content, style = loras_of_three_layers()
    tripled = Lora(
        {name: layer._replace(scale=3 * layer.scale) for name, layer in style.layers.items()}
    )
    wanted = method(content, style, MergeOptions()).until
    found = method(content, tripled, MergeOptions()).until
    assert all(np.isclose(found[name], share) for name, share in wanted.items())

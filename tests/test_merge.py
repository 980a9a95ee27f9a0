import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarar import Hypernet, Layer, Lora, coefficients, merge, reduce_rank

NAME = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def draw_layer(out: int, width: int, rank: int, scale: float, dtype: torch.dtype, seed: int):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(out, rank, generator=generator).to(dtype)
    return Layer(up, torch.randn(rank, width, generator=generator).to(dtype), scale)


def close(found, wanted) -> bool:
    return float((found - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-6


@settings(deadline=None, derandomize=True)
@given(
    st.integers(1, 48),
    st.integers(1, 48),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_factored_equals_dense_for_unequal_ranks_scales_and_dtypes(
    out, width, ranks, scales, dtype
):
    pair = [draw_layer(out, width, ranks[i], scales[i], dtype, seed=i) for i in range(2)]
    hypernet = Hypernet.random((out,), hidden=16)
    dense = [reference.dense(*layer) for layer in pair]
    wanted = reference.coefficients(*dense, *hypernet.inputs[out], *hypernet.output)
    loras = [Lora({NAME: layer}) for layer in pair]
    m = coefficients(*loras, hypernet)
    assert close(m[NAME], wanted)

    exact = [Lora({NAME: Layer(x.up.float(), x.down.float(), x.scale)}) for x in pair]
    merged = merge(*exact, m).layers[NAME]
    assert merged.rank == sum(ranks)
    assert close(reference.dense(*merged), dense[0] * wanted[0] + dense[1] * wanted[1])


def test_a_layer_in_one_lora_only_counts_as_zero_in_the_other():
    layer = draw_layer(8, 6, 2, 1.0, torch.float32, seed=0)
    hypernet = Hypernet.random((8,), hidden=16)
    weights = (*hypernet.inputs[8], *hypernet.output)
    m = coefficients(Lora({NAME: layer}), Lora({}), hypernet)
    zero = torch.zeros(8, 6)
    assert close(m[NAME], reference.coefficients(reference.dense(*layer), zero, *weights))
    merged = merge(Lora({NAME: layer}), Lora({}), m)
    assert close(reference.dense(*merged.layers[NAME]), reference.dense(*layer) * m[NAME][0])


def test_layers_that_are_not_predicted_are_summed():
    name = NAME.replace("to_q", "to_k")
    pair = [draw_layer(8, 6, 2, 1.0, torch.float32, seed=i) for i in range(2)]
    merged = merge(Lora({name: pair[0]}), Lora({name: pair[1]}), {}, 0.5, 2.0).layers[name]
    wanted = 0.5 * reference.dense(*pair[0]) + 2.0 * reference.dense(*pair[1])
    assert close(reference.dense(*merged), wanted)


def test_reduce_rank_is_the_best_approximation_and_reports_its_error():
    layer = draw_layer(20, 30, 8, 1.5, torch.float32, seed=3)
    reduced, error = reduce_rank(Lora({NAME: layer}), 3)
    dw = reference.dense(*layer)
    u, values, v = torch.linalg.svd(dw, full_matrices=False)
    best = u[:, :3] * values[:3] @ v[:3]
    assert close(reference.dense(*reduced.layers[NAME]), best)
    assert abs(error - float((dw - best).norm() / dw.norm())) < 1e-4

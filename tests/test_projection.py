import json
import re
from dataclasses import replace

import pytest

from lorarar.bases import BASES, attention_shapes
from lorarar.benchmarks.forms import Cost
from lorarar.benchmarks.phones import Cluster, Memory, Phone, read_phone, read_phones
from lorarar.benchmarks.projection import (
    PUBLISHED,
    Work,
    against_published,
    checked,
    conclusion,
    merges,
    steps,
)
from lorarar.benchmarks.roofline import Range, project
from lorarar.benchmarks.step_cost import count_pass
from lorarar.errors import LorararError

WANTED = {
    "Snapdragon 8 Gen 3",
    "Snapdragon 8 Elite",
    "Dimensity 9300",
    "Tensor G4",
    "A17 Pro",
    "A18",
    "Snapdragon 7s Gen 3",
    "Raspberry Pi 5",
}
PHONE = """
name = "Paper"
year = 2026
[memory]
gigabytes_per_second = 10
source = "made up"
[[cpu]]
cores = 2
gigahertz = 1.0
fma_pipes = 1
source = "made up"
"""


@pytest.fixture
def paper() -> Phone:
    """16 GFLOP/s in float32 and 10 GB/s."""
    return Phone("Paper", 2026, Memory(10, "made up"), (Cluster(2, 1.0, 1, "made up"),))


def test_every_wanted_phone_is_described_with_sources():
    phones = read_phones()
    assert {phone.name for phone in phones} == WANTED
    for phone in phones:
        parts = [phone.memory, *phone.cpu, phone.gpu, phone.npu]
        assert all(len(part.source) > 10 for part in parts if part)


def test_a_cores_rate_is_clock_times_pipes_times_lanes_times_two():
    assert Cluster(4, 2.4, 2, "").gflop_per_second == pytest.approx(2.4 * 2 * 4 * 2)


def test_a_range_is_the_longer_of_arithmetic_and_memory(paper):
    """8 GFLOP: 8 / (16 x 0.8) s at best, 8 / (16 x 0.25) at worst; 1 GB: 1 / 8.5 and 1 / 4 s."""
    arithmetic = project(paper, "cpu", Cost(8, 0.001))
    memory = project(paper, "cpu", Cost(0.001, 1))
    assert arithmetic and (arithmetic.low, arithmetic.high) == pytest.approx((625, 2000))
    assert memory and (memory.low, memory.high) == pytest.approx((1e3 / 8.5, 250))


def test_a_cpus_poor_end_is_its_fastest_cluster_alone(paper):
    slow = Cluster(1, 0.5, 1, "made up")
    both = project(replace(paper, cpu=(*paper.cpu, slow)), "cpu", Cost(8, 0.001))
    alone = project(paper, "cpu", Cost(8, 0.001))
    assert both and alone and both.high == alone.high and both.low < alone.low


def test_what_is_not_known_is_not_projected(paper):
    assert project(paper, "gpu", Cost(1, 1)) is None
    by_name = {phone.name: phone for phone in read_phones()}
    assert project(by_name["A18"], "npu", Cost(1, 1)) is None  # in float32
    assert project(by_name["A18"], "npu", Cost(1, 1), in_float16=True)


@pytest.mark.parametrize(
    ("known", "off"),
    [(Range(12, 13), 1), (Range(5, 50), 1), (Range(60, 80), 3), (Range(1, 2.5), 0.25)],
)
def test_off_is_how_far_outside_the_range_a_time_lies(known, off):
    assert Range(10, 20).off(known) == off


def test_a_conclusion_follows_from_the_figures():
    work = Work("made up", Cost(1, 1))
    rows = [
        checked("fits", "Paper", "cpu", work=work, found=Range(10, 20), known=Range(15, 15)),
        checked("does not", "Paper", "cpu", work=work, found=Range(10, 20), known=Range(41, 41)),
    ]
    fits, fits_not = conclusion(rows)
    assert "fits: within" in fits and "does not: NOT within" in fits_not


def test_projections_are_counted_by_their_tokens_as_by_hand():
    """Of 16 x 16 latents, halved once for width 96 and twice for 160; text has 77 tokens."""
    tokens = {96: 8 * 8, 160: 4 * 4}
    shapes = attention_shapes(BASES["mini"])
    wanted = sum(
        (77 if name.endswith(("attn2.to_k", "attn2.to_v")) else tokens[out]) * (out + width)
        for name, (out, width) in shapes.items()
    )
    counted = count_pass("mini", 16)
    assert counted.projected == wanted
    assert counted.factors == sum(map(sum, shapes.values()))


def test_weights_are_read_once_a_step_and_a_pair_costs_by_its_rank():
    counted = count_pass("mini", 16)
    plain, pair = counted.cost(16, passes=2), counted.cost(16, passes=2, rank=8)
    fewer_bits = counted.cost(4, passes=2)
    assert pair.gflop - plain.gflop == pytest.approx(2 * 2 * 8 * counted.projected / 1e9)
    assert plain.gigabytes - fewer_bits.gigabytes == pytest.approx(counted.weights * 12 / 8e9)


def test_sdxl_costs_what_is_known_of_it():
    """2.567 G parameters; 6.0 TFLOP of products and 0.7 of attention at 1024 px."""
    counted = count_pass("sdxl", 128)
    assert counted.weights == 2_567_463_684
    assert counted.flop == pytest.approx(6.76e12, rel=0.01)


def test_published_figures_are_held_against_the_projection():
    phones = {phone.name: phone for phone in read_phones()}
    rows = list(against_published(phones))
    assert len(rows) == len(PUBLISHED) == 2
    for row, known in zip(rows, PUBLISHED, strict=True):
        assert row["known_low_ms"] == known.milliseconds
        assert (row["off"] == 1) == (row["low_ms"] <= known.milliseconds <= row["high_ms"])


def test_every_form_and_step_is_projected_onto_every_cpu():
    phones = read_phones()
    for work in (*merges(rank=1), *steps()):
        for phone in phones:
            processors = dict(work.on(phone))
            assert processors["cpu"].low < processors["cpu"].high
            assert ("gpu" in processors) == (work.in_float16 and phone.gpu is not None)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('source = "made up"\n[[cpu]]', 'source = ""\n[[cpu]]', "no source"),
        ("cores = 2", "cores = 0", "no positive numbers"),
        ("gigahertz = 1.0", 'gigahertz = "fast"', "no positive numbers"),
        ("fma_pipes = 1", "pipes = 1", "describes no phone"),
        ("year = 2026", "", "describes no phone"),
        ("[memory]", "[memory", "describes no phone"),
    ],
)
def test_a_file_that_describes_no_phone_is_refused_by_name(tmp_path, before, after, said):
    assert before in PHONE
    path = tmp_path / "paper.toml"
    path.write_text(PHONE.replace(before, after, 1))
    with pytest.raises(LorararError, match=rf"^{re.escape(str(path))}: .*{said}"):
        read_phone(path)


def test_rows_are_plain_json():
    work = Work("made up", Cost(1, 1))
    row = checked("one", "Paper", "cpu", work=work, found=Range(1, 2), known=Range(3, 3))
    assert json.loads(json.dumps(row)) == row

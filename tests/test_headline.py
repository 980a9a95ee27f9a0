"""The headline: claims are judged by figures alone, and every place has its rows."""

import json
from pathlib import Path

import jsonschema
import pytest
import typer
from typer.testing import CliRunner

from lorarar import benchmarks
from lorarar.benchmarks import headline, ziplora
from lorarar.benchmarks.claims import HERE, PROJECTED, claims
from lorarar.benchmarks.devices import emulated
from lorarar.benchmarks.forms import Cost
from lorarar.benchmarks.machine import describe
from lorarar.benchmarks.merge_latency import DENSE
from lorarar.benchmarks.phones import read_phones
from lorarar.benchmarks.projection import Work
from lorarar.benchmarks.report import SCHEMA, Report
from lorarar.benchmarks.step_cost import count_pass
from lorarar.errors import LorararError
from lorarar.report.sections import CLAIM

PHONES = [100.0, 400.0]


def row(name, where=HERE, base="sdxl", **known):
    return headline.row_of(where, base, name=name, **known)


def verdicts(rows, here=200.0):
    return {claim.text: claim.holds for claim in claims(rows, here, PHONES)}


@pytest.mark.parametrize(
    ("seconds", "here", "holds"), [(201, 200, True), (199, 200, False), (201, 500, False)]
)
def test_over_4000_times_needs_the_times_and_a_machine_no_faster_than_phones(seconds, here, holds):
    rows = [
        row("ZipLoRA, 100 steps", median_ms=1e3 * seconds),
        row("factored, numpy", median_ms=50),
    ]
    (text,) = [text for text in verdicts(rows, here) if "4000" in text]
    assert text.startswith("factored") and verdicts(rows, here)[text] is holds


def test_a_bound_is_judged_by_the_fastest_row_of_its_form_and_place():
    rows = [
        row("prepared, full-fp32, numpy", median_ms=60),
        row("runner, prepared, full-fp16, executorch", median_ms=49),
        row("runner, prepared, full-fp16, factors merged, executorch", median_ms=51),
        row("prepared, full-fp32, numpy", base="mini", median_ms=1),
    ]
    found = claims(rows, 200, PHONES)
    assert [(claim.holds, claim.figures) for claim in found] == [
        (True, "49 ms, runner, prepared, full-fp16, executorch"),
        (False, "51 ms, runner, prepared, full-fp16, factors merged, executorch"),
    ]


def test_projected_phones_are_judged_by_the_worst_end_of_the_worst_phone():
    rows = [
        row("prepared, full-fp32", PROJECTED + "A", low_ms=10, high_ms=55),
        row("prepared, full-int8", PROJECTED + "A", low_ms=3, high_ms=20),
        row("prepared, full-fp32", PROJECTED + "B", low_ms=10, high_ms=49),
        row("ZipLoRA, 100 steps", PROJECTED + "A", low_ms=2.0e5, high_ms=9e5),
        row("ZipLoRA, 100 steps", PROJECTED + "B", low_ms=1.9e5, high_ms=9e5),
    ]
    faster, bounded = claims(rows, 200, PHONES)
    assert not faster.holds and faster.figures == "at least 3,878 times, B"
    assert bounded.holds and bounded.figures == "at most 49 ms, B"


def test_a_claim_is_a_note_that_the_report_reads():
    (claim,) = claims([row("file to file", median_ms=1000)], 200, PHONES)
    text, verdict, figures = CLAIM.fullmatch(str(claim)).groups()
    assert verdict == "not supported" and figures == "1000 ms, file to file"
    assert text == f"a plain SDXL pair, file to file in below 1000 ms, {HERE}"


def test_ziplora_s_work_is_six_passes_in_each_of_a_hundred_steps():
    once = count_pass("mini", 16).cost(16, passes=1, rank=16)
    found = headline.count_ziplora("mini", 16, rank=8)
    assert found.gflop == pytest.approx(600 * once.gflop)
    assert found.gigabytes == pytest.approx(600 * once.gigabytes)


def test_steps_are_scaled_only_where_some_are_missing(monkeypatch):
    monkeypatch.setattr(ziplora, "STEPS", 3)
    assert ziplora.Steps([1.0, 2.0, 9.0], 8, 1, "").scaled()["median_ms"] == 12
    scaled = ziplora.Steps([1.0, 3.0], 8, 1, "").scaled()
    assert scaled == {"median_ms": 6, "min_ms": 3, "max_ms": 9}


def test_contributed_files_are_rows_of_their_phone(tmp_path):
    contribution = {
        "schema": SCHEMA,
        "benchmark": "merge_latency",
        "machine": {"cpu": "x", "cores": 8, "system": "Linux", "python": "3.11"},
        "device": {"kind": "adb", "model": "Pixel 9", "system": "Android 15", "abi": "arm64-v8a"},
        "settings": {"base": "sdxl"},
        "rows": [{"name": "runner, factored, warm", "median_ms": 900.0}],
        "notes": [],
    }
    path = tmp_path / "pixel.json"
    path.write_text(json.dumps(contribution))
    (found,) = headline.contributed(tmp_path)
    assert found["where"] == "contributed: Pixel 9" and found["median_ms"] == 900
    assert [claim.holds for claim in claims([found], 200, PHONES)] == [True]
    path.write_text("{}")
    with pytest.raises(LorararError, match=r"pixel\.json"):
        list(headline.contributed(tmp_path))


def made_up(backends, *, dtype, **settings):
    settings.pop("console")
    names = [DENSE, "file to file", "factored, numpy", f"prepared, full-{dtype}, numpy"]
    return Report(
        benchmark="merge_latency",
        machine=describe() | {"gflop_per_second": 100.0, "gigabytes_per_second": 20.0},
        settings=settings,
        rows=[{"name": name, "median_ms": 40.0, "times_dense": 1.0} for name in names],
        notes=["a note of each run"],
    )


def test_the_table_has_every_place_and_says_what_it_left_out(tmp_path, monkeypatch):
    def no_qemu():
        raise LorararError("qemu-aarch64: not installed; run: apt-get install qemu-user")

    steps = ziplora.Steps([2e3, 3e3], 64, 1.0, "made up")
    monkeypatch.setattr(headline, "available", lambda: ["numpy"])
    monkeypatch.setattr(headline, "measure", made_up)
    monkeypatch.setattr(headline, "alone", lambda *given: (steps, 5.0))
    monkeypatch.setattr(headline, "count_ziplora", lambda *given: Cost(1e6, 1e3))
    monkeypatch.setattr(headline, "merges", lambda: [Work("merge, factored", Cost(20, 0.1))])
    monkeypatch.setattr(emulated, "require_qemu", no_qemu)
    app = typer.Typer()
    app.command()(headline.main)
    path = tmp_path / "headline.json"
    done = CliRunner().invoke(app, ["--rounds", "1", "--json", str(path)])
    assert done.exit_code == 0, done.output
    report = json.loads(path.read_text())
    schema = Path(benchmarks.__file__).with_name("schema.json")
    jsonschema.validate(report, json.loads(schema.read_text()))
    names = [(each["name"], each["where"], each["base"]) for each in report["rows"]]
    assert len(names) == len(set(names))
    for name in (
        DENSE,
        "file to file",
        "prepared, full-int8, numpy",
        "ZipLoRA, 100 steps (scaled)",
    ):
        assert (name, HERE, "sdxl") in names
    for phone in read_phones():
        assert ("factored", PROJECTED + phone.name, "sdxl") in names
    notes = report["notes"]
    assert notes.count("a note of each run") == 1
    assert any("left out (qemu-aarch64: not installed" in note for note in notes)
    (first, *_) = [note for note in notes if CLAIM.fullmatch(note)]
    assert "supported (6,250 times: ZipLoRA, 100 steps (scaled) 250 s" in first

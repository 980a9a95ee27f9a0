"""Where benchmarks run: what needs neither a compiler nor qemu nor adb."""

import itertools
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from lorarar import LorararError, benchmarks
from lorarar.benchmarks import merge_latency
from lorarar.benchmarks.devices import adb, choose, emulated, host, runner_engine
from lorarar.benchmarks.devices.device import Choice, Place, Run, read_answer
from lorarar.benchmarks.devices.emulated import split_by_rows
from lorarar.benchmarks.devices.measuring import Pace, measure_on, times_of
from lorarar.benchmarks.devices.merging import largest_error
from lorarar.benchmarks.devices.record import DTYPES, exceeding, read_record
from lorarar.benchmarks.report import Report
from lorarar.files import write_safetensors

ROOT = Path(benchmarks.__file__).parent
SCHEMA = json.loads((ROOT / "schema.json").read_text())
RESULTS = sorted((ROOT / "devices" / "results").glob("*.json"))
PERSONAL = re.compile(
    r"/home/|/Users/|/root|/tmp/|[A-Z]:\\|adb:\w|(?<!\d)\d{1,3}(\.\d{1,3}){3}:\d+"
)
ROW = {"rounds": 3, "first_ms": 9.0, "min_ms": 1.0, "median_ms": 2.0, "p95_ms": 3.0}
ANSWER = {"peak_megabytes": 30.0, "load_ms": 4.0, "rows": [ROW | {"name": "merge"}]}
NOWHERE = Place("")


class MadeUp:
    """A device whose thermal status rises with each look at it."""

    TARGET = "aarch64"

    def __init__(self):
        self.looks = 0

    def describe(self, place):
        self.looks += 1
        return {"kind": "adb", "model": "Made Up", "thermal": ["none", "severe"][self.looks - 1]}


def personal(result: dict) -> list[str]:
    """What a contributed file must not say: paths, addresses, serials."""
    found = [f"key {key}" for key in ("host", "hostname", "serial", "user") if key in str(result)]
    return found + PERSONAL.findall(json.dumps(result, ensure_ascii=False).replace("\\\\", "\\"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("host", Choice("host")),
        ("emulated-aarch64", Choice("emulated-aarch64")),
        ("adb", Choice("adb")),
        ("adb:192.168.0.7:5555", Choice("adb", "192.168.0.7:5555")),
    ],
)
def test_a_device_is_named(text, wanted):
    assert choose(text) == wanted


@pytest.mark.parametrize("text", ["", "phone", "host:1", "adb:", "emulated-aarch64:x"])
def test_other_devices_are_refused(text):
    with pytest.raises(LorararError, match="unknown; use host, emulated-aarch64, adb"):
        choose(text)


def test_cores_are_a_mask_and_a_backend_is_the_runner_s():
    assert choose("adb", "f0").cores == "f0"
    for mask in ("cores", "0", "-1"):
        with pytest.raises(LorararError, match="no mask; give hexadecimal digits"):
            choose("adb", mask)
    assert runner_engine("onnxruntime") == "onnxruntime"
    with pytest.raises(LorararError, match="numpy: on other devices the runner measures; use exe"):
        runner_engine("numpy")


@pytest.mark.parametrize(
    ("threads", "mask"), [(1, "80"), (2, "f0"), (4, "f0"), (5, "ff"), (99, "ff")]
)
def test_a_phone_s_fastest_cores_carry_the_threads(threads, mask):
    frequencies = dict.fromkeys(range(4), 18) | dict.fromkeys((4, 5, 6), 28) | {7: 32}
    assert adb.fastest_cores(frequencies, threads) == mask
    assert adb.fastest_cores({}, threads) == ""


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        ((2, "", "error: a.safetensors: not a file\n"), "^a.safetensors: not a file$"),
        ((-9, "", ""), "there: the runner was killed, perhaps for its memory"),
        ((137, "", "Killed"), "there: the runner was killed, perhaps for its memory"),
        ((-11, "", ""), "there: the runner crashed"),
        ((127, "", "sh: ./run: not found"), "status 127, saying: sh: ./run: not found"),
        ((0, '{"runner": 1', ""), "there: the runner printed no JSON"),
    ],
)
def test_how_the_runner_ended_is_one_line(ended, line):
    with pytest.raises(LorararError, match=line) as refused:
        read_answer(*ended, "there")
    assert "\n" not in str(refused.value)


def test_the_runner_s_answer_is_read_even_if_outputs_are_off():
    assert read_answer(1, '{"runner": 1}', "", "there") == {"runner": 1}


def test_counted_regions_are_shared_out_by_rows():
    rows = [{"name": "small", "rounds": 2}, {"name": "merge", "rounds": 1}]
    assert split_by_rows([5, 6, 7], rows) == {"small": [5, 6], "merge": [7]}
    for regions in ([5, 6], [5, 6, 7, 8]):
        with pytest.raises(LorararError, match="regions counted"):
            split_by_rows(regions, rows)


def test_emulated_time_is_never_called_a_time():
    counted = Run(ANSWER, {"merge": [10, 30, 20]})
    row = times_of(counted.rows["merge"], "merge", counted)
    assert row["instructions"] == 20 and row["emulator_ms"] == 2.0
    assert not row.keys() & {"median_ms", "min_ms", "first_ms", "p95_ms", "load_ms"}
    measured = Run(ANSWER)
    assert times_of(measured.rows["merge"], "merge", measured)["median_ms"] == 2.0


def test_a_cool_and_a_hot_phone_are_told_apart():
    runs = itertools.count()
    works = [lambda: [{"name": "merge", "median_ms": next(runs)}]]
    rows, facts = measure_on(MadeUp(), NOWHERE, "adb", works, Pace(cool_down=0, sustained=0.01))
    assert [row["name"] for row in rows] == ["merge, warm", "merge, sustained"]
    assert rows[0]["median_ms"] == 0 < rows[1]["median_ms"]
    assert (facts["thermal_before"], facts["thermal_after"]) == ("none", "severe")
    assert "thermal" not in facts
    rows, _ = measure_on(MadeUp(), NOWHERE, "adb", works, Pace(cool_down=0, sustained=0))
    assert [row["name"] for row in rows] == ["merge, warm"]


def test_coefficients_are_held_against_numpy_s(tmp_path):
    file = tmp_path / "m.safetensors"
    wanted = {"a": np.ones((2, 3), np.float32), "b": np.full((2, 4), 0.5, np.float32)}
    write_safetensors(file, {"a.m": wanted["a"], "b.m": wanted["b"] * np.float32(1.5)}, {})
    assert largest_error(file, wanted) == 0.5
    with pytest.raises(LorararError, match="predicted 2 layers, numpy 1"):
        largest_error(file, {"a": wanted["a"]})


def test_more_instructions_than_are_kept_are_told():
    kept = {"factored": 1000, "small": 100}
    assert exceeding(kept, {"factored": 1020, "small": 50}) == []
    assert exceeding(kept, {"factored": 1021}) == [
        "factored: 1021 instructions, 2.1 % more than the 1000 that are kept"
    ]
    assert exceeding(kept, {"other": 1}) == ["other: nothing is kept"]


def test_the_record_has_every_form_of_a_merge_and_a_step():
    record = read_record()
    assert record["merges"].keys() == set(DTYPES)
    for dtype, merges in record["merges"].items():
        full = f"prepared, {merge_latency.FULL[dtype]}"
        assert {"factored", "prepared, small", full} < merges.keys()
        # Prepared merges do a part of the work of plain ones.
        assert merges[full] < merges["prepared, small"] < merges["factored"]
    assert {"step", "step with pair", "swap"} < record["steps"].keys()
    assert record["versions"].keys() == {"executorch", "gcc", "qemu"}


def test_without_a_compiler_the_host_is_measured_as_ever(monkeypatch):
    def refuse(*_, **__):
        raise LorararError("cmake: not installed; run: apt-get install cmake")

    monkeypatch.setattr(merge_latency, "measure_merges", refuse)
    row = {"name": merge_latency.DENSE, "median_ms": 1.0}
    settings = {"threads": 1, "base": "mini", "rank": 2, "dtype": "fp32", "rounds": 1}
    machine = dict.fromkeys(merge_latency.LIMITS, 1.0)
    report = Report(benchmark="merge_latency", machine=machine, settings=settings, rows=[row])
    merge_latency.add_runner_rows(report, ["numpy", "executorch"])
    assert report.rows == [row] and "device" not in report.to_json()
    assert report.notes == [
        "the runner on executorch: left out (cmake: not installed; run: apt-get install cmake)"
    ]


def test_without_qemu_the_package_is_named(monkeypatch):
    monkeypatch.setattr(emulated.shutil, "which", lambda _: None)
    with pytest.raises(LorararError, match="qemu-aarch64: not installed; run: apt-get install"):
        emulated.require_qemu()


def test_a_device_s_facts_fit_the_schema():
    facts = host.describe(NOWHERE)
    report = Report(
        benchmark="x",
        machine={"cpu": "c", "cores": 1, "system": "s", "python": "3"},
        settings={},
        rows=[{"name": "r"}],
        device=facts,
    )
    jsonschema.validate(report.to_json(), SCHEMA)
    report.device = facts | {"serial": "A1"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report.to_json(), SCHEMA)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_contributed_results_fit_the_schema_and_tell_of_nobody(path):
    result = json.loads(path.read_text())
    jsonschema.validate(result, SCHEMA)
    assert result["device"]["kind"] != "emulated-aarch64", "a phone or board, by its own time"
    assert personal(result) == []


@pytest.mark.parametrize(
    "secret", ["/home/ada/x.json", r"C:\x", "adb:R58M", "192.168.0.7:5555", "/tmp/bundle"]
)
def test_what_tells_of_somebody_is_found(secret):
    assert personal({"notes": [f"run with {secret}"]})
    assert personal({"device": {"serial": "A1"}})
    assert not personal({"device": {"kind": "adb", "system": "Android 15", "soc": "EX1000"}})

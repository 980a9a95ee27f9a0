"""The real kernels of aarch64, emulated: right numbers, counted instructions; a fake phone, too."""

import shutil
import subprocess

import fake_adb
import jsonschema
import pytest
from test_devices import SCHEMA

from lorarar.benchmarks.devices import DEVICES, choose, emulated, record
from lorarar.benchmarks.devices.bundle import COMMANDS, add_runner
from lorarar.benchmarks.devices.device import Place
from lorarar.benchmarks.devices.emulated import CPU, QEMU
from lorarar.benchmarks.devices.merging import export_merger, run_merge, write_works
from lorarar.benchmarks.report import Report
from lorarar.embedded import HYPERNET, LORAS
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora

pytestmark = pytest.mark.devices

MARKED = r"""
int main(int count, char **words) {
  (void)words;
  for (int i = 0; i < 2; ++i) {
    asm volatile("hint #0x60; nop; nop; nop; hint #0x61" ::: "memory");
  }
  if (count > 1) asm volatile("hint #0x60; nop; hint #0x61; nop; nop; hint #0x61" ::: "memory");
  return 0;
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The runner, the embedded hypernetwork and a pair in each form, which also is returned."""
    folder = tmp_path_factory.mktemp("bundle")
    add_runner(folder, "aarch64", "executorch")
    hypernet = load_hypernet(HYPERNET)
    pair = load_lora(LORAS / "votol.safetensors"), load_lora(LORAS / "neon.safetensors")
    merger = export_merger(folder, hypernet, "executorch", "fp32")
    return folder, list(write_works(folder, pair, hypernet, merger, "fp32"))


@pytest.mark.parametrize(("words", "wanted"), [([], [3, 3]), (["x"], [3, 3, 1])])
def test_the_plugin_counts_what_is_between_the_marks(words, wanted, tmp_path):
    source, program = tmp_path / "marked.c", tmp_path / "marked"
    source.write_text(MARKED)
    compiler = ["aarch64-linux-gnu-gcc", "-O1", "-static", "-o", str(program), str(source)]
    subprocess.run(compiler, check=True)
    counts = tmp_path / "counts.json"
    plugin = f"{emulated.build_plugin()},out={counts}"
    subprocess.run([QEMU, "-cpu", CPU, "-plugin", plugin, str(program), *words], check=True)
    assert counts.read_text() == f'{{"regions": {wanted}}}\n'


def test_a_bundle_runs_from_any_folder(bundle, tmp_path):
    folder, works = bundle
    moved = tmp_path / "an other place"
    shutil.copytree(folder, moved)
    command = [QEMU, "-cpu", CPU, *COMMANDS["aarch64"], "merge", *works[0].files]
    done = subprocess.run(command, cwd=moved, capture_output=True, text=True, check=True)
    assert '"rows"' in done.stdout


def test_emulated_merges_are_right_and_counted_to_the_instruction(bundle):
    folder, works = bundle
    place = Place(str(folder))
    for work in works:
        rows = run_merge(emulated, place, work, rounds=2, threads=1)
        assert rows[0]["error"] < 2e-5, work.name
        again = run_merge(emulated, place, work, rounds=2, threads=1)
        counts = [[row["instructions"] for row in each] for each in (rows, again)]
        assert counts[0] == counts[1] and min(counts[0]) > 1e5


def test_a_merge_takes_no_more_instructions_than_are_kept():
    """Where it does for a reason: python -m lorarar.benchmarks.devices.record"""
    kept = record.read_record()
    assert record.versions() == kept["versions"], "other tools: count again and keep that"
    assert record.exceeding(kept["merges"]["fp32"], record.count_merges("fp32")) == []


def test_the_whole_way_to_a_phone_and_back(bundle, tmp_path, monkeypatch):
    folder, works = bundle
    phones = {"A1": fake_adb.Phone(tmp_path / "phone")}
    with fake_adb.serving(phones) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        device = DEVICES["adb"]
        with device.put(folder, choose("adb")) as place:
            rows = run_merge(device, place, works[-1], rounds=2, threads=1)
            facts = device.describe(place)
    assert rows[0]["error"] < 2e-5 and rows[1]["median_ms"] > 0
    facts |= {"thermal_before": facts.pop("thermal"), "thermal_after": "none"}
    machine = {"cpu": "c", "cores": 1, "system": "s", "python": "3"}
    report = Report(benchmark="x", machine=machine, settings={}, rows=rows, device=facts)
    jsonschema.validate(report.to_json(), SCHEMA)

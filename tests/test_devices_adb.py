"""Phones by the real adb client, in front of a server of our own: what is pushed, run, told."""

import json
import os
from contextlib import ExitStack

import fake_adb
import pytest
from fake_adb import Phone

from lorarar import LorararError
from lorarar.benchmarks.devices import adb, choose

pytestmark = pytest.mark.devices

RUN = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 2
case "$1" in
    merge) echo out > out.safetensors; echo '{"runner": 1, "rows": []}';;
    refused) echo 'error: x.safetensors: not a file' >&2; exit 2;;
    *) exit 1;;
esac
"""


@pytest.fixture
def bundle(tmp_path):
    """A runner that is a script."""
    folder = tmp_path / "bundle"
    (folder / "lib").mkdir(parents=True)
    for name in ("lorarar-run", "ld-linux-aarch64.so.1", "lib/libc.so.6"):
        (folder / name).write_text("")
    (folder / "run").write_text(RUN)
    return folder


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Let adb see these phones; returns the first."""
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    with ExitStack() as stack:

        def start(**states):
            phones = {serial: Phone(tmp_path / serial, **state) for serial, state in states.items()}
            port = stack.enter_context(fake_adb.serving(phones))
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
            return next(iter(phones.values()), None)

        yield start


def refusal(bundle, device):
    """What is said where a bundle cannot be put."""
    with pytest.raises(LorararError) as refused, adb.put(bundle, choose(device)):
        pytest.fail("it was put there")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_bundle_is_pushed_run_on_the_fastest_core_and_taken_away(bundle, serve, tmp_path):
    phone = serve(A1={})
    output = tmp_path / "brought"
    with adb.put(bundle, choose("adb")) as place:
        assert (phone.root / "data/local/tmp/lorarar/lib/libc.so.6").exists()
        run = adb.run(place, ["merge", "a b.safetensors"], output)
    assert run.report == {"runner": 1, "rows": []} and run.instructions is None
    assert output.read_text() == "out\n"
    assert (phone.root / "pinned").read_text() == "8\n"
    assert not (phone.root / "data/local/tmp/lorarar").exists()


def test_a_phone_is_described_by_what_it_says_and_by_nothing_that_names_it(bundle, serve):
    serve(A1={})
    with adb.put(bundle, choose("adb:A1", cores="c")) as place:
        facts = adb.describe(place)
    assert facts == {
        "kind": "adb",
        "model": "Example Phone 1",
        "soc": "EX1000",
        "system": "Android 15",
        "abi": "arm64-v8a",
        "governor": "schedutil",
        "thermal": "light",
        "battery_percent": 83,
        "battery_celsius": 31.2,
        "cores": "c",
    }
    assert "A1" not in json.dumps(facts)


def test_one_of_several_phones_is_named(bundle, serve):
    serve(A1={}, B2={})
    assert refusal(bundle, "adb").startswith("adb: more than one device/emulator; name one of")
    with adb.put(bundle, choose("adb:B2")) as place:
        assert place.serial == "B2"
    assert refusal(bundle, "adb:C3").startswith("adb:C3: device 'C3' not found; `adb devices`")


@pytest.mark.parametrize(
    ("states", "line"),
    [
        ({}, "adb: no devices/emulators found; connect a phone with USB debugging on"),
        ({"A1": {"state": "unauthorized"}}, "device unauthorized.; unlock the phone and allow"),
        ({"A1": {"state": "offline"}}, "adb: device offline; unplug the phone"),
        ({"A1": {"full": True}}, "No space left on device; free some storage on the phone"),
        (
            {"A1": {"properties": {"ro.product.cpu.abi": "x86_64"}}},
            "adb:A1: its processor is x86_64; use an arm64 phone",
        ),
    ],
)
def test_what_cannot_be_is_one_line(states, line, bundle, serve):
    serve(**states)
    assert line in refusal(bundle, "adb")


def test_without_adb_the_package_is_named(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(bundle, "adb") == "adb: not installed; run: apt-get install adb"


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ({"kills": "run merge"}, "adb:A1: the runner was killed, perhaps for its memory"),
        ({"loses": "run merge"}, "adb:A1: the connection was lost while the runner ran"),
    ],
)
def test_what_happens_meanwhile_is_one_line(trouble, line, bundle, serve):
    serve(A1=trouble)
    with adb.put(bundle, choose("adb")) as place, pytest.raises(LorararError, match=line):
        adb.run(place, ["merge"])


def test_the_runner_s_refusal_comes_in_its_own_words(bundle, serve):
    serve(A1={})
    with (
        adb.put(bundle, choose("adb")) as place,
        pytest.raises(LorararError, match=r"^x\.safetensors: not a file$"),
    ):
        adb.run(place, ["refused"])


def test_the_server_may_be_named_as_adb_names_it(bundle, serve, monkeypatch):
    serve(A1={})
    port = os.environ["ANDROID_ADB_SERVER_PORT"]
    monkeypatch.delenv("ANDROID_ADB_SERVER_PORT")
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{port}")
    with adb.put(bundle, choose("adb")) as place:
        assert adb.run(place, ["merge"]).report["runner"] == 1

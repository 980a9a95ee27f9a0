"""A phone, by the `adb` client: the bundle is pushed, run in its shell, and taken away again."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorarar.benchmarks.devices.bundle import LOADER
from lorarar.benchmarks.devices.device import OUTPUT, Choice, Facts, Place, Run, read_answer
from lorarar.errors import LorararError
from lorarar.runtime.native.build import Target
from lorarar.runtime.native.tools import require

TARGET: Target = "aarch64"
FOLDER = "/data/local/tmp/lorarar"
CPUS = "/sys/devices/system/cpu"
CONNECTION = ("closed", "offline", "not found", "no devices", "protocol fault", "connect")
REMEDIES = {  # what adb says, and what to do
    "no devices": "connect a phone with USB debugging on, or name one with --device adb:SERIAL",
    "more than one device": "name one of those that `adb devices` lists with --device adb:SERIAL",
    "unauthorized": "unlock the phone and allow this computer on its screen",
    "not found": "`adb devices` lists those that are connected",
    "offline": "unplug the phone and connect it again",
    "No space left": "free some storage on the phone, or use a smaller base or rank",
}
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@contextmanager
def put(bundle: Path, choice: Choice) -> Iterator[Place]:
    """Push it to the phone, and remove it there at the end.

    Raises LorararError if adb is missing, or there is no phone, more than one, or one that is not
    authorised, not arm64 or full.
    """
    require("adb")
    serial = choice.serial or _adb("", "get-serialno").strip()
    abi = _shell(serial, "getprop ro.product.cpu.abi").strip()
    if not abi.startswith("arm64"):
        raise LorararError(f"adb:{serial}: its processor is {abi or 'unknown'}; use an arm64 phone")
    cores = choice.cores or fastest_cores(_frequencies(serial), choice.threads)
    _shell(serial, f"rm -rf {FOLDER} && mkdir -p {FOLDER}")
    try:
        _adb(serial, "push", f"{bundle}/.", FOLDER)
        _shell(serial, f"cd {FOLDER} && chmod 755 run lorarar-run {LOADER}")
        yield Place(FOLDER, serial, cores)
    finally:
        _forget(serial)


def _forget(serial: str) -> None:
    """Remove the bundle; nothing can be done where the phone is gone."""
    subprocess.run(["adb", "-s", serial, "shell", f"rm -rf {FOLDER}"], capture_output=True)


def run(place: Place, arguments: list[str], output: Path | None = None) -> Run:
    """Run it there, pinned to the place's cores; see `Device.run`.

    Raises LorararError also if the phone is lost meanwhile.
    """
    pinned = f"taskset {place.cores} " if place.cores else ""
    command = f"cd {place.folder} && {pinned}sh ./run {shlex.join(arguments)}"
    done = _run_adb(place.serial, "shell", command)
    where = f"adb:{place.serial}"
    lost = any(word in done.stderr for word in CONNECTION) and done.returncode
    if lost or not _is_there(place):
        raise LorararError(
            f"{where}: the connection was lost while the runner ran; connect it and run again"
        )
    answer = read_answer(done.returncode, done.stdout, done.stderr, where)
    if output:
        _adb(place.serial, "pull", f"{place.folder}/{OUTPUT}", str(output))
    return Run(answer)


def describe(place: Place) -> Facts:
    """See `Device.describe`; nothing in it tells one phone of a model from another."""
    serial = place.serial
    properties = {
        name: _shell(serial, f"getprop ro.{name}").strip()
        for name in ("product.manufacturer", "product.model", "build.version.release")
    }
    soc = [_shell(serial, f"getprop ro.{name}").strip() for name in ("soc.model", "board.platform")]
    governors = _tell(serial, f"cat {CPUS}/cpufreq/policy*/scaling_governor").split()
    battery = _tell(serial, "dumpsys battery")
    thermal = _number(r"Thermal Status: (\d+)", _tell(serial, "dumpsys thermalservice"))
    tenths = _number(r"temperature: (\d+)", battery)
    maker, model, version = properties.values()
    return {
        "kind": "adb",
        "model": f"{maker} {model}".strip(),
        "soc": soc[0] or soc[1] or None,
        "system": f"Android {version}",
        "abi": _shell(serial, "getprop ro.product.cpu.abi").strip(),
        "governor": " ".join(dict.fromkeys(governors)) or None,
        "thermal": None if thermal is None else THERMAL[min(int(thermal), len(THERMAL) - 1)],
        "battery_percent": _number(r"level: (\d+)", battery),
        "battery_celsius": None if tenths is None else tenths / 10,
        "cores": place.cores or None,
    }


def fastest_cores(frequencies: dict[int, int], threads: int) -> str:
    """Return the mask, in hexadecimal digits, of the fastest cores that carry these threads.

    frequencies: the highest of each core, in any unit. Cores as fast as the slowest that is taken
    are taken, too. Empty if nothing is known.

    >>> fastest_cores({0: 18, 1: 18, 2: 24, 3: 24, 4: 30}, threads=1)
    '10'
    >>> fastest_cores({0: 18, 1: 18, 2: 24, 3: 24, 4: 30}, threads=2)
    '1c'
    """
    if not frequencies:
        return ""
    ordered = sorted(frequencies.values(), reverse=True)
    slowest = ordered[min(threads, len(ordered)) - 1]
    taken = (1 << core for core, frequency in frequencies.items() if frequency >= slowest)
    return f"{sum(taken):x}"


def _frequencies(serial: str) -> dict[int, int]:
    """Empty where the phone does not let its shell read them."""
    text = _tell(serial, f"grep -H . {CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    found = re.findall(r"cpu(\d+)/cpufreq/cpuinfo_max_freq:(\d+)", text)
    return {int(core): int(frequency) for core, frequency in found}


def _number(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found[1]) if found else None


def _is_there(place: Place) -> bool:
    return _run_adb(place.serial, "get-state").returncode == 0


def _tell(serial: str, command: str) -> str:
    """What a command prints, as far as the phone lets its shell know."""
    return _run_adb(serial, "shell", command).stdout


def _shell(serial: str, command: str) -> str:
    return _adb(serial, "shell", command)


def _adb(serial: str, *words: str) -> str:
    """Raise LorararError with what adb said, and what to do about it, if it fails."""
    done = _run_adb(serial, *words)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        line = next((line for line in said if "error" in line), said[0])  # amid a copy's progress
        line = re.sub(r"^(adb: )?error: ", "", line)
        remedy = next((do for word, do in REMEDIES.items() if word in line), "see `adb devices`")
        raise LorararError(f"adb{':' if serial else ''}{serial}: {line}; {remedy}")
    return done.stdout


def _run_adb(serial: str, *words: str) -> subprocess.CompletedProcess[str]:
    chosen = ["-s", serial] if serial else []
    return subprocess.run(
        ["adb", *chosen, *words], capture_output=True, text=True, errors="replace"
    )

"""An aarch64 processor emulated by qemu's user mode: right numbers, counted instructions, no speed.

What a program can read of the processor is pinned along with it, as the engines choose their
kernels by that: by files that qemu opens in place of this machine's.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorarar.benchmarks.devices.bundle import COMMANDS
from lorarar.benchmarks.devices.device import OUTPUT, Choice, Facts, Place, Run, read_answer
from lorarar.errors import LorararError
from lorarar.files import user_cache, write_atomically
from lorarar.runtime.native.build import Target
from lorarar.runtime.native.tools import run as run_tool

TARGET: Target = "aarch64"
QEMU = "qemu-aarch64"
CPU = "cortex-a76"  # with the instructions for int8 (dotprod) that phones have since 2018
PLUGIN = Path(__file__).with_name("insn.c")
CORES = 4
CORE = """\
processor\t: {}
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 0

"""


@contextmanager
def put(bundle: Path, choice: Choice) -> Iterator[Place]:
    """Leave it where it is.

    Raises LorararError if qemu is missing or takes no plugin.
    """
    require_qemu()
    yield Place(str(bundle))


def require_qemu() -> None:
    """Raise LorararError naming Debian's package if qemu is missing or takes no plugin."""
    if "-plugin" not in run_tool([QEMU, "-help"]):
        raise LorararError(
            f"{QEMU}: takes no -plugin, which counts instructions; use Debian 12's qemu-user"
        )


def run(place: Place, arguments: list[str], output: Path | None = None) -> Run:
    """Run it there and count the instructions of each round; see `Device.run`."""
    with tempfile.TemporaryDirectory() as name:
        root, counts = Path(name, "root"), Path(name, "counts.json")
        _pin_processor(root)
        plugin = f"{build_plugin()},out={counts}"
        command = [QEMU, "-cpu", CPU, "-L", str(root), "-plugin", plugin, *COMMANDS[TARGET]]
        done = subprocess.run(
            [*command, *arguments],
            cwd=place.folder,
            env={"PATH": "/usr/bin:/bin"},  # the runner's environment, pinned like the processor
            capture_output=True,
            text=True,
            errors="replace",
        )
        answer = read_answer(done.returncode, done.stdout, done.stderr, "emulated-aarch64")
        try:
            regions = json.loads(counts.read_bytes())["regions"]
        except OSError as error:
            raise LorararError(f"{QEMU}: its plugin counted nothing ({error})") from error
    if output:
        shutil.move(Path(place.folder, OUTPUT), output)
    return Run(answer, split_by_rows(regions, answer["rows"]))


def split_by_rows(regions: list[int], rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Share out the counts of the rounds, which come in the order of the rows.

    Raises LorararError if there are more or fewer than rounds.
    """
    if len(regions) != sum(row["rounds"] for row in rows):
        raise LorararError(f"{len(regions)} regions counted, but the runner tells of other rounds")
    left = iter(regions)
    return {row["name"]: [next(left) for _ in range(row["rounds"])] for row in rows}


def describe(place: Place) -> Facts:
    """See `Device.describe`."""
    libc = Path(place.folder, "lib", "libc.so.6").read_bytes()
    version = libc.partition(b"stable release version ")[2].partition(b".\n")[0]
    return {
        "kind": "emulated-aarch64",
        "model": f"{QEMU} -cpu {CPU}",
        "system": f"qemu {qemu_version()}, glibc {version.decode(errors='replace')[:8]}",
        "abi": "arm64-v8a",
    }


def qemu_version() -> str:
    """As it tells it, such as 7.2.22."""
    return run_tool([QEMU, "--version"]).split()[2]


def build_plugin() -> Path:
    """Compile the plugin that counts, once for each version of its source.

    Raises LorararError naming Debian's package if there is no compiler, or if it fails.
    """
    source = PLUGIN.read_bytes()
    library = user_cache("devices") / f"insn-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder, "insn.so")
            run_tool(["gcc", "-O2", "-shared", "-fPIC", "-o", built, PLUGIN])
            write_atomically(library, lambda file: file.write(built.read_bytes()), force=True)
    return library


def _pin_processor(root: Path) -> None:
    info = root / "proc" / "cpuinfo"
    info.parent.mkdir(parents=True)
    info.write_text("".join(CORE.format(number) for number in range(CORES)))
    cores = root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cores / name).write_text(f"0-{CORES - 1}\n")

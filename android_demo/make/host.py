"""Run the app's engine on this machine's JVM, with an APK's x86-64 libraries over our shim."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import shim

ROOT = Path(__file__).parents[1]
LORARAR = "app/src/main/java/org/lorarar"
SOURCES = ("npm/src/main/java", "host/src", f"{LORARAR}/core", f"{LORARAR}/engine")
LIBRARIES = ("libexecutorch.so", "libfbjni.so", "libc++_shared.so")


@dataclass(frozen=True)
class Host:
    """What a driver runs with. libraries: the folder of Android's; shim: of what stands in."""

    libraries: Path
    shim: Path
    class_path: str

    def run(self, main: str, *arguments: str | Path) -> str:
        """Run `org.lorarar.host.<main>` and return what it printed.

        Raises CalledProcessError if it fails.
        """
        command = ["java", f"-Djava.library.path={self.libraries}", "-cp", self.class_path]
        return subprocess.run(
            [*command, f"org.lorarar.host.{main}", *map(str, arguments)],
            env=os.environ | {"LD_LIBRARY_PATH": f"{self.shim}:{self.libraries}"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


def prepare(libraries: Path, jar: Path, cache: Path) -> Host:
    """Build shim and classes into `cache`.

    libraries: a folder with LIBRARIES of x86-64; jar: ExecuTorch's Java classes.
    """
    shim.build([libraries / name for name in LIBRARIES], cache / "shim", "x86_64")
    classes = cache / "classes"
    sources = [path for place in SOURCES for path in (ROOT / place).rglob("*.java")]
    compiler = ["javac", "-Xlint:-options", "--release", "8", "-cp", str(jar), "-d", str(classes)]
    subprocess.run([*compiler, *map(str, sources)], check=True)
    return Host(libraries, cache / "shim", f"{classes}:{jar}")

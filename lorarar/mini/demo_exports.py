"""Export the embedded model in processes of their own, while the demo loads torch and draws."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorarar.artefacts.formats import FORMAT_OF, Engine
from lorarar.embedded import NAME
from lorarar.errors import LorararError

QUANTIZE: dict[Engine, str] = {"onnxruntime": "int8", "executorch": "none"}  # what the demo exports
# More threads than cores wait for each other: drawing took eight times as long.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Export:
    """A process that writes an engine's folder; said: what it prints."""

    engine: Engine
    folder: Path
    said: Path
    process: subprocess.Popen

    def wait(self) -> None:
        """Raises LorararError if it fails."""
        if self.process.wait():
            said = self.said.read_text().strip()[-500:]
            raise LorararError(f"exporting for {self.engine} failed: {said}")


@contextmanager
def exported_beside(engine: Engine) -> Iterator[Export]:
    """Export the embedded model for an engine, in a process of its own meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name, engine), Path(name, "said")
        command = [sys.executable, "-m", f"lorarar.export.to_{FORMAT_OF[engine]}", "--model", NAME]
        command += ["--quantize", QUANTIZE[engine], "-o", str(folder)]
        with open(said, "w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=ONE_THREAD)
        try:
            yield Export(engine, folder, said, process)
        finally:
            process.kill()
            process.wait()

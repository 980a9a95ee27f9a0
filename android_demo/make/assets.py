"""What the app carries: the exported model, LoRAs with thumbnails, names and licences."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from PIL import Image

from lorarar.artefacts.formats import ExecutorchQuantize
from lorarar.artefacts.pipeline import check_files, read_manifest
from lorarar.artefacts.training import Entry, load_manifest
from lorarar.embedded import LORAS, NAME
from lorarar.errors import LorararError
from lorarar.mini.pictures import images_of

from . import names
from .downloads import EXECUTORCH, NativeRuntime

ROOT = Path(__file__).parents[2]
THUMBNAIL = 128  # pixels
NOTE = """\
ExecuTorch, as built for react-native-executorch {version} (Software Mansion, MIT License), whose
package holds no text of a licence; ExecuTorch's own:

"""


def exported_model(folder: Path, quantize: ExecutorchQuantize) -> Path:
    """Return the embedded model as exported for ExecuTorch, which is done once.

    Raises LorararError if the export fails, or if one made earlier is damaged.
    """
    model = folder / f"model-{quantize}"
    if not model.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "export" / "to_executorch.py"), "--model", NAME]
        command += ["--quantize", quantize, "-o", str(model)]
        if subprocess.run(command).returncode:
            raise LorararError(f"{model}: exporting the embedded model failed, see above")
    check_files(model, read_manifest(model))
    return model


def write_assets(folder: Path, model: Path, runtime: NativeRuntime | None) -> None:
    """Fill `folder`, anew, with all that the app carries.

    runtime: whose licences are shown; None for an app without one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder / "model")
    names.write(folder / "names.json")
    _write_loras(folder / "loras")
    _write_licences(folder / "licences", runtime)


def _write_loras(folder: Path) -> None:
    folder.mkdir()
    listed = []
    for entry in load_manifest(LORAS).loras:
        if not entry.file.exists():  # of those that only the training of the hypernetwork saw
            continue
        shutil.copyfile(entry.file, folder / entry.file.name)
        pixels = (images_of(entry.name)[0][0] * 255).round().astype("uint8")
        thumbnail = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        thumbnail.save(folder / f"{entry.name}.png")
        listed.append(_described(entry))
    (folder / "loras.json").write_text(json.dumps(listed, indent=1))


def _described(entry: Entry) -> dict[str, str]:
    is_style = entry.kind == "style"
    return {
        "file": entry.file.name,
        "name": entry.name,
        "role": entry.kind,
        "prompt": f"in {entry.name} style" if is_style else entry.prompt,
        "thumbnail": f"{entry.name}.png",
    }


def _write_licences(folder: Path, runtime: NativeRuntime | None) -> None:
    folder.mkdir()
    shutil.copyfile(ROOT / "LICENSE", folder / "lorarar.txt")
    if runtime is not None:
        (folder / "executorch.txt").write_text(NOTE.format(version=EXECUTORCH[1]) + _licence())
        shutil.copyfile(runtime.licence, folder / "fbjni and libc++ (react-native).txt")


def _licence() -> str:
    """ExecuTorch's, of the wheel that exports."""
    wheel = metadata.distribution("executorch")
    (name,) = [file for file in wheel.files or [] if file.name == "LICENSE"]
    return Path(str(wheel.locate_file(name))).read_text()

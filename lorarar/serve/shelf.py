"""What the page offers: the LoRAs that fit the pipeline, and why others are left out."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from lorarar.errors import LorararError
from lorarar.files import read_safetensors
from lorarar.formats.source import json_object
from lorarar.hypernet import ROLES, Role
from lorarar.runtime.cache import FileVersion, file_version
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve.loras import OfferedLora, left_out, list_loras

MOST_NAMED = 3  # in a line


class Looked(NamedTuple):
    """What a look at a file's header showed. notes: what takes no part; role: that it is prepared
    for, if it is; phrase: that calls it, if the file says so; trouble: why it cannot be used, ""
    if it can."""

    notes: tuple[str, ...] = ()
    role: Role | None = None
    phrase: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Listing:
    """LoRAs by name, and what keeps the other files from being offered, by theirs."""

    offered: dict[str, OfferedLora]
    skipped: dict[str, str]


@dataclass
class Shelf:
    """A folder of LoRAs, if there is one, and those that were dropped on the page.

    looked: what is known of each file as it is now; one is looked at again when it changed.
    """

    pipeline: Pipeline
    folder: Path | None
    uploads: Path
    looked: dict[FileVersion, Looked] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def listing(self) -> Listing:
        """Look at files that are new or changed, 20 ms for one of SDXL's, and list them all.

        Raises LorararError if there is no such folder.
        """
        offered: dict[str, OfferedLora] = {}
        skipped: dict[str, str] = {}
        with self.lock:
            known, self.looked = self.looked, {}
            for name, choice in list_loras(self.folder, self.uploads).items():
                try:
                    version = file_version(choice.file)
                    self.looked[version] = known.get(version) or self._look(choice.file)
                except LorararError as error:
                    skipped[choice.file.name] = str(error)
                    continue
                looked = self.looked[version]
                if looked.trouble:
                    skipped[choice.file.name] = looked.trouble
                else:
                    offered[name] = replace(
                        choice,
                        kinds=(looked.role,) if looked.role else choice.kinds,
                        prompt=choice.prompt or looked.phrase,
                        phrase=choice.phrase or looked.phrase,
                        notes=looked.notes,
                    )
        return Listing(offered, skipped)

    def describe(self) -> str:
        """Say in a line how many LoRAs are offered, and what is skipped or takes no part."""
        listing = self.listing()
        partly = sum(bool(choice.notes) for choice in listing.offered.values())
        said = f"{len(listing.offered)} LoRAs offered"
        if partly:
            said += f", {partly} of them without all of their layers (the page says which)"
        said += f", {len(listing.skipped)} skipped"
        reasons = [f"{name} ({trouble})" for name, trouble in listing.skipped.items()]
        reasons[MOST_NAMED:] = ["..."] if len(reasons) > MOST_NAMED else []
        if reasons:
            said += f": {'; '.join(reasons)}"
        return "; ".join([said, *(left_out(self.folder) if self.folder else ())])

    def _look(self, file: Path) -> Looked:
        try:
            notes = tuple(self.pipeline.check_lora(file))
            _, metadata = read_safetensors(file)
            role = json_object(metadata, "lorarar.prepared", file).get("role")
            phrase = metadata.get("modelspec.trigger_phrase", "")
            return Looked(notes, role if role in ROLES else None, phrase)
        except LorararError as error:
            return Looked(trouble=str(error).removeprefix(f"{file}: "))
        except Exception as error:  # it costs this file, not the page
            logging.exception("%s could not be looked at", file)
            kind = type(error).__name__
            return Looked(trouble=f"cannot be read ({kind}); the terminal says more")

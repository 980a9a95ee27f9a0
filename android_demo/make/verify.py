"""What an APK is, read back from its bytes: signatures, permissions, alignments, libraries."""

import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lorarar.runtime.native.tools import run

LOAD = 1  # an ELF segment that is mapped
LOCAL_HEADER = 30  # bytes of a zip entry's header before its name


@dataclass(frozen=True)
class Facts:
    """What was found.

    signatures: such as "v2"; badging: what aapt says of the manifest, by key; abis: of libraries;
    permissions: that it asks for; pages: the alignment of each library's segments, in bytes;
    unaligned: stored entries that do not begin at a multiple of four; stored: names of entries that
    are not compressed.
    """

    size: int
    signatures: frozenset[str]
    badging: dict[str, str]
    permissions: list[str]
    abis: frozenset[str]
    pages: dict[str, int]
    stored: frozenset[str]
    unaligned: list[str]


def read_apk(apk: Path) -> Facts:
    """Read an APK's facts.

    Raises LorararError if a signature is broken, or if a tool is missing.
    """
    signed = run(["apksigner", "verify", "--verbose", "--min-sdk-version", "26", apk])
    badging = run(["aapt", "dump", "badging", apk])
    with zipfile.ZipFile(apk) as archive:
        entries = archive.infolist()
        libraries = {each.filename: archive.read(each) for each in entries if _is_library(each)}
        starts = {each.filename: _start(archive, each) for each in entries if _is_stored(each)}
    return Facts(
        size=apk.stat().st_size,
        signatures=frozenset(re.findall(r"(v\d) scheme \(.*\): true", signed)),
        badging=dict(re.findall(r"^([a-zA-Z-]+):'?(.*?)'?$", badging, re.MULTILINE)),
        permissions=run(["aapt", "dump", "permissions", apk]).splitlines()[1:],
        abis=frozenset(name.split("/")[1] for name in libraries),
        pages={Path(name).name: page_alignment(elf) for name, elf in libraries.items()},
        stored=frozenset(starts),
        unaligned=[name for name, start in starts.items() if start % 4],
    )


def page_alignment(elf: bytes) -> int:
    """The smallest alignment of a 64-bit library's mapped segments, in bytes.

    >>> page_alignment(b"")
    Traceback (most recent call last):
    ValueError: no 64-bit ELF file
    """
    if elf[:5] != b"\x7fELF\x02":
        raise ValueError("no 64-bit ELF file")
    (first,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<I44xQ", elf, first + size * index) for index in range(count)]
    return min(alignment for kind, alignment in segments if kind == LOAD)


def _is_library(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.startswith("lib/")


def _is_stored(entry: zipfile.ZipInfo) -> bool:
    return entry.compress_type == zipfile.ZIP_STORED and entry.file_size > 0


def _start(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin; its own header tells how long it is."""
    file = archive.fp
    assert file is not None  # the archive is open
    file.seek(entry.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(LOCAL_HEADER))
    return int(entry.header_offset + LOCAL_HEADER + name + extra)

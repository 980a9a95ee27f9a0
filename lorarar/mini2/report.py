"""What was measured beside what had been asked for: python -m lorarar.mini2.report FOLDER"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorarar.mini2.world import GATES


def report(folder: Path) -> Iterator[str]:
    """Yield the gates as a table in Markdown; what was not measured is left out."""
    yield "| gate | asked | measured | holds | least |"
    yield "|---|---|---|---|---|"
    known = json.loads((folder / "gates.json").read_text())
    for gate, (asked, found) in _measured(known).items():
        where = min(found, key=lambda name: found[name])
        value, below = found[where], gate == "direct_below"
        holds = value < asked if below else value >= asked
        yield f"| {gate} | {asked} | {value:.3f} | {'yes' if holds else '**no**'} | {where} |"


def _measured(known: dict[str, Any]) -> dict[str, tuple[float, dict[str, float]]]:
    """By gate: what is asked, and what was found by question, of which the least counts."""
    found: dict[str, dict[str, float]] = {
        gate: known[gate] for gate in ("judge", "alone", "together") if gate in known
    }
    if "decoded" in known:
        found["decoded"] = {q: v / known["judge"][q] for q, v in known["decoded"].items()}
    held_out = known.get("loras_held_out")
    if held_out:
        found["content"] = {"subject": held_out["content"]["subject"]}
        found["style"] = {"style": held_out["style"]["style"]}
        found["known_look"] = {"subject": held_out["known_look"]["subject"]}
    if "joint" in known:
        found["joint"] = {side: known["joint"][side] for side in ("content", "style", "both")}
    if "direct" in known:
        found["direct_below"] = {"both": known["direct"]["both"]}
    return {gate: (GATES[gate], found[gate]) for gate in GATES if gate in found}


if __name__ == "__main__":
    for line in report(Path(sys.argv[1])):
        print(line)

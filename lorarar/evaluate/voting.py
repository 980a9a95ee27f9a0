"""A page for blind votes: one file that needs nothing else, from which votes are exported as CSV.

It knows pictures by their contents, not by their methods; no name in it tells one from another.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lorarar.errors import LorararError
from lorarar.evaluate.calls import calls_between, encoded, picture_id
from lorarar.evaluate.folder import Picture, References
from lorarar.evaluate.questions import VOTES, Subject
from lorarar.evaluate.votes import COLUMNS, UNSURE
from lorarar.files import write_atomically

HERE = Path(__file__).parent
SIDE, REFERENCE_SIDE = 512, 192  # pixels
REFERENCES = 4  # shown at most

Ballot = dict[str, Any]


def write_voting_page(
    output: Path,
    pictures: Sequence[Picture],
    references: References,
    *,
    pairs: bool = False,
    most: int = 100,
    seed: int = 0,
    force: bool = False,
) -> int:
    """Write a page with `most` ballots in random order; returns how many there are.

    A ballot asks whether a picture shows its subject, or its style; with `pairs`, which of two
    methods' pictures does both better.

    Raises LorararError if there is nothing to vote on, or the page exists or cannot be written.
    """
    generator = np.random.default_rng(seed)
    every = _between(pictures, references, generator) if pairs else _alone(pictures, references)
    if not every:
        raise LorararError(
            "nothing to vote on: --pairs needs two methods with one subject and style"
        )
    ballots = [every[index] for index in generator.permutation(len(every))[:most]]
    images: dict[str, str] = {}
    for ballot in ballots:
        for part, side in (("subject", REFERENCE_SIDE), ("style", REFERENCE_SIDE), ("shown", SIDE)):
            ballot[part] = [_image(images, path, side) for path in ballot[part]]
    data = {"columns": COLUMNS, "ballots": ballots, "pictures": images}
    data["id"] = sha256(json.dumps(data).encode()).hexdigest()[:16]
    page = _page(json.dumps(data).replace("<", "\\u003c"))
    write_atomically(output, lambda file: file.write(page.encode()), force)
    return len(ballots)


def _alone(pictures: Sequence[Picture], references: References) -> list[Ballot]:
    sides: tuple[Subject, ...] = ("subject", "style")
    return [
        {
            "question": side,
            "text": VOTES[side],
            "picture": picture_id(picture.path),
            "other": "",
            "subject": references.of("subject", name)[:REFERENCES] if side == "subject" else [],
            "style": references.of("style", name)[:REFERENCES] if side == "style" else [],
            "shown": [picture.path],
            "choices": ["yes", "no", UNSURE],
        }
        for picture in pictures
        for side in sides
        if (name := picture.name(side))
    ]


def _between(
    pictures: Sequence[Picture], references: References, generator: np.random.Generator
) -> list[Ballot]:
    ballots = []
    for (one, other, swapped), _ in calls_between(pictures, references):
        if swapped:
            continue
        left, right = (other, one) if generator.random() < 0.5 else (one, other)
        ballots.append(
            {
                "question": "preference",
                "text": VOTES["preference"],
                "picture": picture_id(left.path),
                "other": picture_id(right.path),
                "subject": references.of("subject", one.subject or "")[:REFERENCES],
                "style": references.of("style", one.style or "")[:REFERENCES],
                "shown": [left.path, right.path],
                "choices": ["left", "tie", "right"],
            }
        )
    return ballots


def _image(images: dict[str, str], path: Path, side: int) -> str:
    """Put a picture into the page once; returns its name there."""
    name = f"{picture_id(path)}-{side}"
    if name not in images:
        data = b64encode(encoded(path, side, "WEBP")).decode()
        images[name] = f"data:image/webp;base64,{data}"
    return name


def _page(data: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:">
<title>Votes</title>
<link rel="icon" href="data:,">
<style>
{(HERE / "page.css").read_text("utf-8")}</style>
</head>
<body>
<header>
<h1 id="question" aria-live="polite"></h1>
<p class="quiet" id="progress" role="status"></p>
</header>
<main>
<section id="subject-part"><p class="quiet">the subject</p>
<div class="row references" id="subject"></div></section>
<section id="style-part"><p class="quiet">the style</p>
<div class="row references" id="style"></div></section>
<div class="row" id="judged"></div>
<div class="row choices" id="choices"></div>
<div class="row">
<button type="button" id="back">back <kbd>←</kbd></button>
<button type="button" id="forward">forward <kbd>→</kbd></button>
</div>
<p><label>your name <input id="voter" autocomplete="off" maxlength="40"></label></p>
<div class="row"><button type="button" id="export">export votes.csv</button></div>
<p class="quiet" id="kept"></p>
</main>
<script type="application/json" id="ballots">{data}</script>
<script>
{(HERE / "vote.js").read_text("utf-8")}</script>
</body>
</html>
"""

"""The command line's commands that judge pictures."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lorarar.cli.options import Output, Positive, say
from lorarar.command import Force, console
from lorarar.errors import LorararError, printable
from lorarar.evaluate.questions import SetName

if TYPE_CHECKING:
    from lorarar.evaluate.judges import JudgeOptions
    from lorarar.evaluate.runner import Tally

commands = typer.Typer()

WIDTH = 200  # of tables in files and pipes

Images = Annotated[
    Path, typer.Argument(help="SUBJECT/STYLE/NN.png, METHOD/SUBJECT/STYLE/NN.png or metadata.jsonl")
]
References = Annotated[
    Path | None, typer.Option(help="folder: subjects/NAME/*.png and styles/NAME/*.png")
]
JudgeName = Annotated[
    str, typer.Option(help="openai:MODEL, a transformers folder or hub id, or embedded")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="of an OpenAI-compatible endpoint; its key: LORARAR_JUDGE_KEY")
]
AtOnce = Annotated[int, typer.Option(min=1, help="calls under way at an endpoint")]
Timeout = Annotated[float, typer.Option(min=0.1, help="seconds for an attempt")]
Workers = Annotated[int | None, typer.Option(min=1, help="so many judges at a time, through Ray")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="count calls, tokens, cost; ask nothing")]
Price = Annotated[
    tuple[float, float] | None, typer.Option(help="of a million tokens, in and out: 2.5 10")
]
Votes = Annotated[list[Path] | None, typer.Option(help="CSV of the voting page; several times")]
Weights = Annotated[Path | None, typer.Option(help="folder of its weights, for transformers")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="folder; goes on if it exists")]


@commands.command()
def evaluate(
    images: Images,
    judge: JudgeName,
    output: Folder,
    references: References = None,
    questions: SetName = "mars2",
    base_url: BaseUrl = None,
    at_once: AtOnce = 8,
    timeout: Timeout = 120.0,
    side: Annotated[int | None, typer.Option(min=8, help="pixels of the longer side")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="of the longest answer")] = None,
    swapped: Annotated[
        bool, typer.Option("--swapped", help="generated picture first: for the order's bias")
    ] = False,
    again: Annotated[int, typer.Option(min=0, help="ask anew, for the n-th time more")] = 0,
    clip: Weights = None,
    dino: Weights = None,
    csd: Weights = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    price: Price = None,
) -> None:
    """Let a multimodal model judge pictures (MARS^2): content, style, both; resumes if killed."""
    from lorarar.evaluate import evaluation

    job = evaluation.Job(
        images,
        references,
        output,
        _judge(judge, base_url, at_once, timeout, references),
        questions=questions,
        side=side,
        tokens=tokens,
        order="generated first" if swapped else "reference first",
        again=again,
        folders={"clip": clip, "dino": dino, "csd": csd},
    )
    found = evaluation.find(job)
    if dry_run:
        _say_estimate(evaluation.dry_run(found), price)
        return
    with _progress(sum(1 for _ in found.calls())) as after_call:
        tally, results = evaluation.evaluate(found, workers=workers, after_call=after_call)
    _show(results["rows"])
    for name, reason in results["skipped"].items():
        say(f"{name}: skipped, {reason}")
    say(f"{output / evaluation.PAGE}: the pictures, and what was said of them")
    _say_tally(tally, price)


@commands.command()
def agreement(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS...", help="of lorarar evaluate")
    ] = None,
    votes: Votes = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON, too")] = None,
    force: Force = False,
) -> None:
    """Compare judges with each other, with themselves (--swapped, --again) and with people."""
    import json

    from lorarar.evaluate.agreement import agreement
    from lorarar.evaluate.votes import read_raters
    from lorarar.files import write_atomically

    raters = read_raters(results or (), votes or ())
    if len(raters) < 2:
        raise LorararError("agreement needs two raters: RESULTS of two judges, or --votes CSV")
    rows = agreement(raters)
    for number, rater in enumerate(raters, 1):
        say(f"{number}: {rater.name}")
    numbers = {rater.name: str(number) for number, rater in enumerate(raters, 1)}
    _show([row | {"raters": " ".join(numbers[name] for name in row["raters"])} for row in rows])
    if output:
        text = json.dumps({"schema": "lorarar.agreement.1", "rows": rows}, indent=1) + "\n"
        write_atomically(output, lambda file: file.write(text.encode()), force)


@commands.command()
def prefer(
    images: Images,
    output: Folder,
    judge: Annotated[str | None, typer.Option(help="as of lorarar evaluate")] = None,
    references: References = None,
    votes: Votes = None,
    base_url: BaseUrl = None,
    at_once: AtOnce = 8,
    timeout: Timeout = 120.0,
    workers: Workers = None,
    dry_run: DryRun = False,
    price: Price = None,
) -> None:
    """Compare methods two by two, in both orders: wins, ties, losses, Bradley-Terry scores."""
    from lorarar.evaluate.preferring import prefer
    from lorarar.evaluate.votes import read_raters

    if judge is None and not votes:
        raise LorararError("nobody to ask: give --judge, --votes CSV or both")
    if judge is not None and references is None:
        raise LorararError(
            "--references is needed: the judge sees one of the subject and the style"
        )
    with _progress(None) as after_call:
        tally, found = prefer(
            images,
            references,
            output,
            judge=None if judge is None else _judge(judge, base_url, at_once, timeout, references),
            votes=read_raters((), votes or ()),
            dry_run=dry_run,
            workers=workers,
            after_call=after_call,
        )
    if dry_run:
        _say_estimate(tally, price)
        return
    _show(found["rows"])
    _show(found["between"])
    if found["asked"]:
        say(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found["asked"].items()))
    _say_tally(tally, price)


@commands.command()
def vote(
    images: Images,
    references: Annotated[Path, typer.Option(help="as of lorarar evaluate")],
    output: Output,
    pairs: Annotated[bool, typer.Option("--pairs", help="ask which method is better")] = False,
    most: Annotated[int, typer.Option(min=1, help="questions on the page")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Force = False,
) -> None:
    """Make a page for blind votes: one file, offline, by keys or touch; it exports CSV."""
    from lorarar.evaluate.folder import find_pictures, find_references
    from lorarar.evaluate.voting import write_voting_page

    pictures = find_pictures(images)
    count = write_voting_page(
        output,
        pictures,
        find_references(references, pictures),
        pairs=pairs,
        most=most,
        seed=seed,
        force=force,
    )
    say(f"{output}: {count} questions")


@commands.command()
def drawings(
    output: Output,
    pictures: Positive = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    scale: Annotated[int, typer.Option(min=1, help="times 64 pixels")] = 1,
    force: Force = False,
) -> None:
    """Draw pictures, references and the truth about them (CSV), to try a judge on."""
    from lorarar.evaluate.drawings import write_drawings

    write_drawings(output, pictures, seed, scale, force)
    say(f"{output}: {pictures} drawings, their references and truth.csv")


def _judge(
    judge: str, base_url: str | None, at_once: int, timeout: float, references: Path | None
) -> "JudgeOptions":
    from lorarar.evaluate.judges import JudgeOptions

    if references is None and judge != "embedded":
        raise LorararError("--references is needed: only the embedded judge knows names")
    return JudgeOptions(judge, base_url, at_once, timeout)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[], None]]:
    """Show how many calls are answered; gives what to call after each."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("asking", total=total)
        yield lambda: progress.advance(task)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from lorarar.evaluate.pages import cell_of

    every = dict.fromkeys(key for row in rows for key in row)
    columns = [key for key in every if not key.endswith(("_low", "_high"))]
    table = Table(*(key.replace("_", " ") for key in columns))
    for row in rows:
        table.add_row(*(printable(cell_of(row, key)) for key in columns))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _say_estimate(tally: "Tally", price: tuple[float, float] | None) -> None:
    cost = f", {tally.cost(price):.2f} at these prices" if price else ""
    say(
        f"{tally.asked} calls to ask ({tally.cached} known), about {tally.input_tokens} tokens in, "
        f"at most {tally.output_tokens} out{cost}; nothing was asked"
    )


def _say_tally(tally: "Tally", price: tuple[float, float] | None) -> None:
    """Say how asking went; calls without an answer are an error, with what to do."""
    cost = f", {tally.cost(price):.2f} at these prices" if price else ""
    say(
        f"{tally.asked} calls asked, {tally.cached} known before; {tally.input_tokens} tokens in, "
        f"{tally.output_tokens} out{cost}"
    )
    if tally.failed:
        raise LorararError(
            f"{tally.failed} calls got no answer (at last {tally.why}); their pictures are left "
            "out, run the same command again"
        )

"""`lorarar evaluate`: what is asked, of whom, what the answers come to; bad servers, kills."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import b64decode
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from judging_server import says, serving
from PIL import Image
from typer.testing import CliRunner

from lorarar.cli import cli
from lorarar.errors import LorararError
from lorarar.evaluate import runner
from lorarar.evaluate.answers import reason_of, value_of
from lorarar.evaluate.calls import calls_about
from lorarar.evaluate.evaluation import CACHE, PAGE, Job, evaluate, find
from lorarar.evaluate.folder import find_pictures, find_references
from lorarar.evaluate.judges import JudgeOptions, endpoint
from lorarar.evaluate.questions import GRADED, MARS2, QUESTION_SETS, REASONED
from lorarar.evaluate.scores import interval

SECRET = "sk-not-to-be-seen-anywhere"
PARTS = {"dog": (0, 0, 200), "cat": (200, 0, 0), "ink": (0, 90, 0), "neon": (90, 90, 0)}


def picture(path: Path, seed: int, colour=(128, 128, 128)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 40, (8, 8, 3))
    Image.fromarray(np.uint8(np.clip(noise + np.array(colour), 0, 255))).save(path)


@pytest.fixture
def images(tmp_path):
    """Two subjects in two styles, two pictures each, and three references of each."""
    for number, (subject, style) in enumerate(
        (s, t) for s in ("dog", "cat") for t in ("ink", "neon")
    ):
        for index in range(2):
            picture(tmp_path / "images" / subject / style / f"{index}.png", 10 * number + index)
    for index in range(3):
        for kind, names in (("subjects", ("dog", "cat")), ("styles", ("ink", "neon"))):
            for name in names:
                path = tmp_path / "references" / kind / name / f"{index}.png"
                picture(path, 100 + index, PARTS[name])
    return tmp_path


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LORARAR_JUDGE_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def job(images: Path, url: str, **options) -> Job:
    at_once, timeout = options.pop("at_once", 4), options.pop("timeout", 20.0)
    judge = JudgeOptions("openai:m", url, at_once=at_once, timeout=timeout)
    output = options.pop("output", images / "results")
    return Job(images / "images", images / "references", output, judge, **options)


def run(*arguments) -> object:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def words(request: dict) -> str:
    return request["messages"][0]["content"][-1]["text"]


def test_a_folder_without_a_manifest_works_by_its_names(images):
    found = find_pictures(images / "images")
    assert [(each.subject, each.style, each.path.name) for each in found[:3]] == [
        ("cat", "ink", "0.png"), ("cat", "ink", "1.png"), ("cat", "neon", "0.png"),
    ]  # fmt: skip
    for method in ("ours", "theirs"):
        picture(images / "methods" / method / "dog" / "ink" / "0.png", 1)
    assert [each.method for each in find_pictures(images / "methods")] == ["ours", "theirs"]


def test_a_manifest_names_what_names_of_files_do_not(images):
    picture(images / "flat" / "a.png", 1)
    line = {"file_name": "a.png", "subject": "dog", "style": None, "prompt": "a dog", "seed": 3}
    (images / "flat" / "metadata.jsonl").write_text(json.dumps(line) + "\n\n")
    (only,) = find_pictures(images / "flat")
    assert (only.subject, only.style, only.method, only.prompt) == ("dog", None, "", "a dog")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"file_name": "b.png", "subject": "dog"}', "does not exist"),
        ('{"file_name": "a.png"}', "neither subject nor style"),
        ('{"file_name": "a.png", "subject": 3}', "damaged"),
        ('["a.png"]', "damaged"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_a_damaged_manifest_is_one_clear_line(images, line, wanted):
    picture(images / "flat" / "a.png", 1)
    (images / "flat" / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(LorararError, match=wanted):
        find_pictures(images / "flat")


def test_missing_pictures_references_and_judges_are_named(images):
    with pytest.raises(LorararError, match="no such folder"):
        find_pictures(images / "nowhere")
    (images / "empty").mkdir()
    with pytest.raises(LorararError, match="holds no pictures"):
        find_pictures(images / "empty")
    picture(images / "odd" / "a.png", 1)
    with pytest.raises(LorararError, match="neither SUBJECT/STYLE"):
        find_pictures(images / "odd")
    with pytest.raises(LorararError, match="no reference pictures of subject 'cat'"):
        find_references(images / "nowhere", find_pictures(images / "images"))
    bad = images / "images" / "dog" / "ink" / "bad.png"
    bad.write_bytes(b"no picture")
    asked = (
        "evaluate",
        images / "images",
        "--references",
        images / "references",
        "-o",
        images / "r",
    )
    with serving(lambda *_: says("yes")) as server:
        done = run(*asked, "--judge", "openai:m", "--base-url", server.url)
    assert "bad.png: cannot be read as a picture" in str(done.exception)
    assert "--references is needed" in str(run(*asked[:2], *asked[4:], "--judge", "x").exception)
    assert "needs a key" in str(run(*asked, "--judge", "openai:m").exception)


def test_every_question_is_asked_once_per_reference_and_names_the_places(images):
    shown = find_pictures(images / "images")
    references = find_references(images / "references", shown)
    asked = [call for _, call in calls_about(shown[0], references, MARS2)]
    assert [call.name for call in asked] == ["cat"] * 3 + ["ink"] * 3
    assert len({call.key("judge") for call in asked}) == 6
    for call in asked:
        assert call.pictures[call.generated] == shown[0].path and call.generated == 1
        assert "The first picture is a reference, the second was generated" in call.text
    swapped = [c for _, c in calls_about(shown[0], references, MARS2, order="generated first")]
    for call in swapped:
        assert call.pictures[call.generated] == shown[0].path and call.generated == 0
        assert "The second picture is a reference, the first was generated" in call.text
    again = [call for _, call in calls_about(shown[0], references, MARS2, again=1)]
    keys = [{call.key("judge") for call in calls} for calls in (asked, swapped, again)]
    assert len(set.union(*keys)) == 18


def test_keys_depend_on_what_is_in_the_files_not_on_where_they_are(images):
    def keys(folder):
        found = find_pictures(folder / "images")
        references = find_references(folder / "references", found)
        return [c.key("j") for each in found for _, c in calls_about(each, references, MARS2)]

    moved = images.with_name("moved")
    before = keys(images)
    images.rename(moved)
    assert keys(moved) == before and len({*before}) == len(before)


def test_a_picture_that_was_drawn_anew_is_asked_about_anew(images):
    with serving(lambda *_: says("yes")) as server:
        evaluate(find(job(images, server.url)))
        picture(images / "images" / "dog" / "ink" / "0.png", 999)
        tally, _ = evaluate(find(job(images, server.url)))
    assert (tally.asked, tally.cached) == (6, 42)


def test_no_question_holds_braces_after_it_is_filled_in_and_each_has_its_own_name(images):
    (images / "images" / "metadata.jsonl").write_text(
        json.dumps(
            {"file_name": "dog/ink/0.png", "subject": "dog", "style": "ink", "prompt": "a {x}"}
        )
    )
    found = find_pictures(images / "images")
    references = find_references(images / "references", found)
    for questions in QUESTION_SETS.values():
        assert len({question.name for question in questions.questions}) == len(questions.questions)
        texts = [call.text for _, call in calls_about(found[0], references, questions)]
        assert texts and not any("{generated}" in text or "{{" in text for text in texts)
    assert any("a {x}" in text for text in texts)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("yes", 1), ("No.", 0), (" **Yes**, it is.", 1), ("YES", 1),
        ("no\nThe palette differs.", 0), ("After looking at both, my answer is: no.", 0),
        ("Answer: yes", 1),
        ("No doubt it is the same dog", None), ("Yes and no", None), ("yes/no", None),
        ("Yes. Final answer: no", None), ("I cannot help with that.", None), ("", None),
        ("<think>No, wait. Yes?</think>\n\nYes", 1), ("<think>Yes. Answer: yes", None),
        ("Sí", None), ("はい", None), ("Nobody knows.", None), ("There is no dog here", None),
    ],
)  # fmt: skip
def test_what_is_neither_yes_nor_no_is_not_guessed(text, wanted):
    assert value_of(text, "yes or no") == wanted


@pytest.mark.parametrize(
    ("text", "form", "most", "wanted"),
    [
        ("3", "grade", 4, 0.75), ("Score: 4/4", "grade", 4, 1), ("**2**", "grade", 4, 0.5),
        ("7", "grade", 4, None), ("3/5", "grade", 4, None), ("3 or 4", "grade", 4, None),
        ('{"reason": "fine", "score": 5}', "score with reason", 10, 0.5),
        ('```json\n{"reason": "x", "score": 10}\n```', "score with reason", 10, 1),
        ('{"score": 11}', "score with reason", 10, None), ("5", "score with reason", 10, None),
        ('{"score": true}', "score with reason", 10, None),
        ("{" * 5000, "score with reason", 10, None),
        ("Third.", "a or b", 1, 1), ("the fourth picture", "a or b", 1, 0),
        ("tie", "a or b", 1, 0.5), ("third or fourth", "a or b", 1, None),
    ],
)  # fmt: skip
def test_grades_scores_and_choices_are_read_or_left_open(text, form, most, wanted):
    assert value_of(text, form, most) == wanted


def test_a_score_has_a_reason():
    assert reason_of('{"reason": "blurred", "score": 1}') == "blurred"
    assert reason_of("I would say so") == "I would say so"


def test_sets_combine_what_was_asked_and_nothing_that_was_not():
    assert MARS2.combine({"subject": 1.0, "style": 0.0}) == {"content": 1, "style": 0, "both": 0}
    assert MARS2.combine({"subject": 1.0, "style": None})["both"] is None
    assert MARS2.combine({"style": 1.0}) == {"content": None, "style": 1, "both": 1}
    looks = {"style: colour": 1.0, "style: stroke": 0.5, "style: texture": 0.0}
    assert GRADED.combine({"subject": 0.5, **looks})["product"] == 0.25
    assert GRADED.combine({"subject": 0.5, **looks, "prompt": None})["product"] is None
    scored = {"subject": 1.0, "style": 0.25, "naturalness": 1.0, "artefacts": 1.0}
    assert REASONED.combine(scored) == {"semantics": 0.25, "quality": 1.0, "overall": 0.5}


def test_the_interval_is_that_of_the_quality_benchmark():
    from lorarar.benchmarks import quality

    shares = np.random.default_rng(0).random(36).tolist()
    drawn = np.random.default_rng(0).choice(shares, (10_000, 36)).mean(1)  # of published tables
    assert interval(shares) == tuple(np.percentile(drawn, (2.5, 97.5)))
    assert interval(shares) == pytest.approx(quality.interval(shares), abs=0.01)
    low, high = interval([0.5] * 7)
    assert (low, high) == (0.5, 0.5)


def test_majority_over_references_then_means_over_pairs(images):
    def script(request, before):
        """Two of three references are like ink pictures, one of three like neon ones."""
        asked = words(request)
        number = len(counts.setdefault(asked, []))
        counts[asked].append(1)
        if "subject of the generated" in asked:
            return says("yes")
        return says("yes" if number % 3 < 1 + (number // 3 in INK) else "no")

    counts: dict[str, list] = {}
    INK = (0, 1, 4, 5)  # cat ink, cat neon, dog ink, dog neon: two pictures each
    with serving(script) as server:
        asked = job(images, server.url, at_once=1)
        tally, results = evaluate(find(asked))
    assert (tally.asked, tally.input_tokens, tally.output_tokens) == (48, 4800, 96)
    (row,) = results["rows"]
    assert (row["content"], row["style"], row["both"]) == (1, 0.5, 0.5)
    assert row["style_low"] < 0.5 < row["style_high"] and row["pictures"] == 8
    both = {
        f"{pair['subject']} {pair['style']}": pair["means"]["both"] for pair in results["pairs"]
    }
    assert both == {"cat ink": 1, "cat neon": 0, "dog ink": 1, "dog neon": 0}
    page = (asked.output / PAGE).read_text()
    assert page.count("<article>") == 8 and "0 of" not in page


BAD = [
    (429, b"slow down", {"Retry-After": "0"}),
    (429, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    (500, b"<html>oops</html>", {}),
    (503, b"\xff\xfe", {"Retry-After": "soon"}),
    "cut",
    "drip",
    "hang",
    (200, b"{not json", {}),
    (200, b'{"choices": []}', {}),
    (200, b'{"choices": [{"message": {"content": 7}}], "usage": {}}', {}),
    (200, b"[" * 100_000, {}),
]
SAID = [
    says("Yes."),
    says("no"),
    says("Looking at the ears, the colours and the pose, one might well say so."),
    says(None, refusal="I'm sorry, I cannot compare pictures of dogs."),
    says("Sí, son iguales."),
    says("はい"),
    says("<script>alert(1)</script>"),
    says(""),
]


def test_a_server_that_misbehaves_loses_no_result_and_never_hangs(images):
    """Each question first meets two kinds of failure, then gets the answer it would have got."""

    def bad(request, before):
        return BAD[(number(request) + before) % len(BAD)] if before < 2 else good(request, before)

    def good(request, before):
        return SAID[number(request) % len(SAID)]

    def number(request):
        return int(sha256(json.dumps(request).encode()).hexdigest(), 16)

    results = {}
    for name, script in (("good", good), ("bad", bad)):
        with serving(script) as server:
            asked = job(images, server.url, output=images / name, timeout=0.6, at_once=16)
            tally, results[name] = evaluate(find(asked))
            assert (tally.asked, tally.failed) == (48, 0)
            assert min(server.came.values()) == (3 if name == "bad" else 1)
    assert results["good"]["rows"] == results["bad"]["rows"]
    assert results["bad"]["rows"][0]["unclear"] > 0
    page = (images / "bad" / PAGE).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "(unclear)" in page


def test_calls_without_an_answer_leave_their_pictures_out_until_they_are_asked_again(images):
    def script(request, before):
        asked = words(request)
        if down and "artistic style as" in asked:
            return (400, b"content policy", {})
        return says("yes")

    down = True
    with serving(script) as server:
        arguments = (
            "evaluate", images / "images", "--references", images / "references",
            "--judge", "openai:m", "--base-url", server.url, "-o", images / "r", "--at-once", 1,
        )  # fmt: skip
        failed = run(*arguments)
        assert failed.exit_code == 1
        assert "24 calls got no answer (at last HTTP 400: content policy)" in str(failed.exception)
        (row,) = json.loads((images / "r" / "results.json").read_text())["rows"]
        assert (row["missing"], row["content"], row["both"]) == (24, 1, None)
        down = False
        done = run(*arguments)
        assert done.exit_code == 0, done.output
    assert max(server.answered.values()) == 1
    (row,) = json.loads((images / "r" / "results.json").read_text())["rows"]
    assert (row["missing"], row["both"]) == (0, 1)


def test_one_answer_that_is_refused_is_counted_and_the_rest_is_judged(images):
    refused = []

    def script(request, before):
        if not refused or request in refused:
            refused.append(request)
            return (400, b"content policy", {})
        return says("yes")

    with serving(script) as server:
        done = run(
            "evaluate", images / "images", "--references", images / "references", "--judge",
            "openai:m", "--base-url", server.url, "-o", images / "r",
        )  # fmt: skip
    assert done.exit_code == 1 and "1 calls got no answer (at last HTTP 400" in str(done.exception)
    (row,) = json.loads((images / "r" / "results.json").read_text())["rows"]
    assert (row["missing"], row["content"], row["pictures"]) == (1, 1, 8)


def test_a_judge_that_never_answers_stops_the_run(images, monkeypatch):
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    monkeypatch.setattr(runner, "GIVE_UP", 3)
    with (
        serving(lambda *_: (500, b"down", {})) as server,
        pytest.raises(LorararError, match="3 calls in a row got no answer"),
    ):
        evaluate(find(job(images, server.url)))
    assert sum(server.came.values()) < 20


@pytest.mark.parametrize("status", [401, 400, 500])
def test_the_key_is_sent_and_never_shown_or_kept(images, monkeypatch, status):
    monkeypatch.setenv("LORARAR_JUDGE_KEY", SECRET)
    monkeypatch.setattr(endpoint, "ATTEMPTS", 1)
    body = b'{"error": "Bearer ' + SECRET.encode() + b' is not welcome"}'

    def script(request, before):
        return says("yes") if "artistic style as" in words(request) else (status, body, {})

    arguments = (
        "evaluate", images / "images", "--references", images / "references", "--judge",
        "openai:m", "-o", images / "r",
    )  # fmt: skip
    with serving(script) as server:
        done = run(*arguments, "--base-url", server.url)
    assert done.exit_code == 1 and "***" in str(done.exception)
    assert server.authorised == {f"Bearer {SECRET}"}
    assert SECRET not in done.output + str(done.exception)
    files = [path for path in (images / "r").rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)


def test_a_password_in_the_address_is_used_and_not_shown(images):
    with serving(lambda *_: says("yes")) as server:
        address = server.url.replace("//", f"//me:{SECRET}@")
        _, results = evaluate(find(job(images, address)))
        assert all(each.startswith("Basic ") for each in server.authorised)
    assert results["judge"] == f"openai:m at {server.url}"
    files = [path for path in (images / "results").rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_openais_own_key_goes_to_openai_only(images, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(lambda *_: says("yes")) as server:
        evaluate(find(job(images, server.url)))
    assert server.authorised == {None}


def test_a_killed_run_goes_on_and_asks_nothing_twice(images):
    """The judge answers ten calls and then none; the run is killed without a chance to save."""

    def script(request, before):
        return says("yes") if healthy or sum(server.answered.values()) < 10 else "hang"

    healthy = False
    with serving(script) as server:
        arguments = [
            "evaluate", images / "images", "--references", images / "references", "--judge",
            "openai:m", "--base-url", server.url, "-o", images / "r", "--at-once", 1,
        ]  # fmt: skip
        command = [sys.executable, "-m", "lorarar", *map(str, arguments)]
        process = subprocess.Popen(command, env=os.environ | {"NO_PROXY": "127.0.0.1"})
        try:
            until = time.monotonic() + 60
            while _kept(images / "r" / CACHE) < 10:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert _kept(images / "r" / CACHE) == 10
        healthy = True
        assert run(*arguments).exit_code == 0
        assert {*server.answered.values()} == {1} and len(server.answered) == 48
        assert run(*arguments).exit_code == 0
        assert sum(server.answered.values()) == 48


def _kept(cache: Path) -> int:
    if not cache.exists():
        return 0
    connection = sqlite3.connect(cache)
    try:
        return connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
    finally:
        connection.close()


def test_a_dry_run_counts_and_asks_and_writes_nothing(images):
    done = run(
        "evaluate", images / "images", "--references", images / "references", "--judge",
        "openai:m", "-o", images / "r", "--dry-run", "--price", 1000, 0,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "48 calls to ask (0 known)" in done.output and "nothing was asked" in done.output
    assert " at these prices" in done.output and not (images / "r").exists()


@pytest.mark.parametrize("name", ["graded", "reasoned"])
def test_other_questions_go_the_same_way(images, name):
    answers = {"graded": "3", "reasoned": '{"reason": "sharp & clear", "score": 8}'}
    with serving(lambda *_: says(answers[name])) as server:
        _, results = evaluate(find(job(images, server.url, questions=name)))
    (row,) = results["rows"]
    wanted = {"graded": ("product", 0.75**2), "reasoned": ("overall", 0.8)}
    column, value = wanted[name]
    assert row[column] == pytest.approx(value) and row["unclear"] == 0
    assert results["questions"] == f"{name} 1"


def test_pictures_are_sent_small_and_upright(images):
    large = images / "images" / "dog" / "ink" / "2.png"
    Image.new("RGB", (900, 300), "red").save(large)
    sent = []
    with serving(lambda request, _: sent.append(request) or says("yes")) as server:
        evaluate(find(job(images, server.url)))
    sizes = set()
    for body in sent:
        for part in body["messages"][0]["content"][:-1]:
            data = part["image_url"]["url"].removeprefix("data:image/png;base64,")
            sizes.add(Image.open(BytesIO(b64decode(data))).size)
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 16)
    assert sizes == {(8, 8), (512, 171)}


def test_models_that_take_other_parameters_get_them(images):
    def script(request, before):
        for name in ("temperature", "max_tokens"):
            if name in request:
                error = {"message": "no", "param": name, "code": "unsupported_parameter"}
                return (400, json.dumps({"error": error}).encode(), {})
        return says("yes" if request["max_completion_tokens"] == 2000 else "no")

    with serving(script) as server:
        tally, results = evaluate(find(job(images, server.url, tokens=2000)))
    assert (tally.failed, results["rows"][0]["both"], results["tokens"]) == (0, 1, 2000)


def test_a_results_folder_of_something_else_is_left_alone(images):
    (images / "r").mkdir()
    (images / "r" / "results.json").write_text('{"mine": 1}')
    with (
        serving(lambda *_: says("yes")) as server,
        pytest.raises(LorararError, match=r"is not of lorarar's"),
    ):
        evaluate(find(job(images, server.url, output=images / "r")))
    assert not server.came and (images / "r" / "results.json").read_text() == '{"mine": 1}'
    (images / "r" / "results.json").unlink()
    (images / "r" / CACHE).write_bytes(b"no database at all, but long enough to be looked at" * 9)
    with pytest.raises(LorararError, match="cannot keep answers"):
        evaluate(find(job(images, "http://127.0.0.1:9", output=images / "r")))


@pytest.mark.slow  # Ray's start
def test_rays_workers_ask_everything_once(images):
    def script(request, before):
        if "artistic style as" in words(request):
            return says("no")
        return (400, b"policy", {}) if before == 0 and not refused.append(1) else says("yes")

    refused: list[int] = []
    with serving(script) as server:
        first, _ = evaluate(find(job(images, server.url)), workers=2)
        assert (first.asked, first.failed) == (24, 24) and "HTTP 400" in first.why
        second, results = evaluate(find(job(images, server.url)), workers=2)
        assert (second.cached, second.asked, second.failed) == (24, 24, 0)
        assert {*server.answered.values()} == {1}
        (row,) = results["rows"]
        assert (row["content"], row["style"], row["missing"]) == (1, 0, 0)
    with serving(lambda *_: (401, b"who are you?", {})) as server:
        refusing = job(images, server.url, output=images / "refused")
        with pytest.raises(LorararError, match="HTTP 401"):
            evaluate(find(refusing), workers=2)


MEASURED = """
import sys
from pathlib import Path
from lorarar.evaluate.evaluation import Job, evaluate, find
from lorarar.evaluate.judges import JudgeOptions

folder, url = Path(sys.argv[1]), sys.argv[2]
judge = JudgeOptions("openai:m", url, at_once=8)
evaluate(find(Job(folder / "images", folder / "references", folder / "results", judge)))
status = Path("/proc/self/status").read_text()  # getrusage's peak is at least the parent's
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.slow  # about a minute and a half
def test_ten_thousand_pictures_take_no_more_memory_than_a_hundred(tmp_path):
    peaks = {}
    for count in (100, 10_000):
        folder = tmp_path / str(count)
        for number in range(count):
            style = ("ink", "neon")[number % 2]
            picture(folder / "images" / "dog" / style / f"{number:05}.png", number)
        for place in ("subjects/dog", "styles/ink", "styles/neon"):
            picture(folder / "references" / place / "0.png", 1, PARTS[Path(place).name])
        with serving(lambda *_: says("yes")) as server:
            command = [sys.executable, "-c", MEASURED, str(folder), server.url]
            env = os.environ | {"NO_PROXY": "127.0.0.1"}
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            assert sum(server.answered.values()) == 2 * count
        peaks[count] = float(done.stdout)
    # The list of files and their hashes, some kB a picture, is all that may grow.
    assert peaks[10_000] - peaks[100] < 40, peaks
    print(f"peaks in MB by pictures: {peaks}")

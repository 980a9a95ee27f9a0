"""Raters compared, methods preferred, people asked: figures, and the page in a browser."""

import csv
import json
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from judging_server import says, serving
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from scipy.stats import spearmanr as scipy_spearman
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from lorarar.benchmarks.screenshot import ARGUMENTS, CHROMIUM
from lorarar.cli import cli
from lorarar.errors import LorararError
from lorarar.evaluate.agreement import cohens_kappa, krippendorffs_alpha, pearson, spearman
from lorarar.evaluate.calls import picture_id
from lorarar.evaluate.folder import find_pictures, find_references
from lorarar.evaluate.preference import Duel, bradley_terry, scores
from lorarar.evaluate.votes import COLUMNS, read_raters, read_votes
from lorarar.evaluate.voting import write_voting_page

SHADES = {"best": 220, "good": 150, "poor": 40}


def run(*arguments) -> object:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def picture(path: Path, shade: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 20, (16, 16, 3))
    Image.fromarray(np.uint8(noise + shade)).save(path)


@pytest.fixture
def images(tmp_path):
    """Three methods whose pictures differ in brightness, two pairs of three pictures each."""
    seeds = iter(range(1000))
    for method, shade in SHADES.items():
        for subject in ("dog", "cat"):
            for number in range(3):
                path = tmp_path / "images" / method / subject / "ink" / f"{number}.png"
                picture(path, shade, next(seeds))
    for place in ("subjects/dog", "subjects/cat", "styles/ink"):
        for number in range(2):
            picture(tmp_path / "references" / place / f"{number}.png", 100, next(seeds))
    return tmp_path


def units(values) -> dict[str, float]:
    return {str(index): float(v) for index, v in enumerate(values) if v is not None}


def test_kappa_and_correlations_are_those_of_scipy_and_scikit_learn():
    generator = np.random.default_rng(0)
    one = generator.integers(0, 3, 80)
    other = np.where(generator.random(80) < 0.6, one, generator.integers(0, 3, 80))
    pair = units(one), units(other)
    assert cohens_kappa(*pair) == pytest.approx(cohen_kappa_score(one, other))
    assert pearson(*pair) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert spearman(*pair) == pytest.approx(scipy_spearman(one, other)[0])
    always = units([1] * 80)
    assert (cohens_kappa(always, always), pearson(always, pair[0])) == (None, None)
    assert cohens_kappa(units([1]), {"other": 1.0}) is None


def test_alpha_is_that_of_its_definition():
    """Krippendorff's own example of missing values, as a plain sum over pairs."""
    raters = [
        [None, None, None, None, None, 3, 4, 1, 2, 1, 1, 3, 3, None, 3],
        [1, None, 2, 1, 3, 3, 4, 3, None, None, None, None, None, None, None],
        [None, None, 2, 1, 3, 4, 4, None, 2, 1, 1, 3, 3, None, 4],
    ]
    assert krippendorffs_alpha([units(each) for each in raters]) == pytest.approx(0.811, abs=5e-4)
    columns = [[v for v in column if v is not None] for column in zip(*raters, strict=True)]
    rated = [column for column in columns if len(column) > 1]
    every = [value for column in rated for value in column]
    within = sum(
        (a - b) ** 2 / (len(column) - 1) for column in rated for a, b in permutations(column, 2)
    )
    between = sum((a - b) ** 2 for a, b in permutations(every, 2)) / (len(every) - 1)
    assert krippendorffs_alpha([units(each) for each in raters]) == pytest.approx(
        1 - within / between
    )
    assert krippendorffs_alpha([units([1, 0]), units([1, 0])]) == 1
    assert krippendorffs_alpha([units([1, 1]), units([1, 1])]) is None
    assert krippendorffs_alpha([units([1]), {}]) is None


def test_bradley_terry_finds_the_strengths_that_wins_were_drawn_from():
    strengths = np.array([1.0, 0.0, -1.0])
    chances = 1 / (1 + np.exp(strengths[None] - strengths[:, None]))
    won = chances * 1e6 * (1 - np.eye(3))
    assert bradley_terry(won) == pytest.approx(strengths, abs=1e-4)
    assert bradley_terry(np.stack([won, won.T]))[1] == pytest.approx(-strengths, abs=1e-4)
    always = bradley_terry(np.array([[0.0, 9], [0, 0]]))
    assert np.isfinite(always).all() and always[0] > 1


def test_intervals_of_strengths_hold_them_and_records_add_up():
    generator = np.random.default_rng(0)
    duels = [
        Duel("a", "b", (str(pair), "ink"), float(generator.random() < 0.7))
        for pair in range(40)
        for _ in range(5)
    ]
    first, second = scores(duels)
    assert (first["method"], second["method"]) == ("a", "b")
    assert first["strength_low"] < first["strength"] < first["strength_high"]
    assert first["strength"] == pytest.approx(np.log(0.7 / 0.3) / 2, abs=0.2)
    assert first["wins"] == second["losses"] and first["wins"] + first["losses"] == 200


def brightness(request: dict) -> list[float]:
    from base64 import b64decode
    from io import BytesIO

    pictures = [part for part in request["messages"][0]["content"] if part["type"] == "image_url"]
    data = [part["image_url"]["url"].split(",")[1] for part in pictures]
    return [float(np.asarray(Image.open(BytesIO(b64decode(each)))).mean()) for each in data]


def test_a_judge_that_prefers_bright_pictures_ranks_methods_by_brightness(images):
    def script(request, before):
        *_, third, fourth = brightness(request)
        return says("third" if third > fourth else "Fourth.")

    with serving(script) as server:
        done = run(
            "prefer", images / "images", "--references", images / "references", "--judge",
            "openai:m", "--base-url", server.url, "-o", images / "r",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    assert sum(server.came.values()) == 3 * 6 * 2
    found = json.loads((images / "r" / "preference.json").read_text())
    assert [(row["method"], row["wins"]) for row in found["rows"]] == [
        ("best", 12), ("good", 6), ("poor", 0),
    ]  # fmt: skip
    assert found["asked"] == {
        "duels": 18, "by_order": 0, "third": 18, "fourth": 18, "unclear": 0, "missing": 0,
    }  # fmt: skip
    assert found["between"][0] == {
        "method": "best", "against": "good", "wins": 6, "ties": 0, "losses": 0,
    }  # fmt: skip


def test_a_judge_that_prefers_a_place_prefers_no_method(images):
    arguments = (
        "prefer", images / "images", "--references", images / "references", "--judge", "openai:m",
        "-o", images / "r",
    )  # fmt: skip
    with serving(lambda *_: says("third")) as server:
        dry = run(*arguments, "--base-url", server.url, "--dry-run")
        assert "36 calls to ask" in dry.output and not server.came
        assert run(*arguments, "--base-url", server.url).exit_code == 0
    found = json.loads((images / "r" / "preference.json").read_text())
    assert (found["asked"]["by_order"], found["asked"]["third"]) == (18, 36)
    assert all(row["ties"] == 12 and abs(row["strength"]) < 1e-9 for row in found["rows"])


def test_nothing_to_compare_is_said_in_one_line(images):
    alone = ("prefer", images / "images" / "best", "-o", images / "r")
    done = run(*alone, "--references", images / "references", "--judge", "x")
    assert "nothing to compare" in str(done.exception)
    assert "nobody to ask" in str(run(*alone).exception)
    assert "agreement needs two raters" in str(run("agreement").exception)
    one = run(
        "vote", *alone[1:2], "--references", images / "references", "-o", images / "v", "--pairs"
    )
    assert "nothing to vote on" in str(one.exception)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a,b\n1,2\n", "its first line has to be voter"),
        ("voter,question,picture,answer\nann,style,1,maybe\n", "line 2: answer 'maybe'"),
        ("voter,question,picture,answer\nann,style,1,1.5\n", "answer '1.5'"),
        ("voter,question,picture,answer\nann,style\n", "answer ''"),
        (b"\xff\xfe\x00", "cannot be read as votes"),
    ],
)
def test_damaged_votes_are_named(tmp_path, text, wanted):
    path = tmp_path / "votes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LorararError, match=wanted):
        read_votes(path)


def test_damaged_results_and_equal_names_are_named(tmp_path):
    with pytest.raises(LorararError, match="holds no results"):
        read_raters([tmp_path], [])
    (tmp_path / "results.json").write_text('{"rater": "r"}')
    (tmp_path / "pictures.jsonl").write_text("[1]\n")
    with pytest.raises(LorararError, match="damaged results"):
        read_raters([tmp_path], [])
    path = tmp_path / "votes.csv"
    path.write_text("voter,question,picture,answer\nann,style,1,yes\n")
    with pytest.raises(LorararError, match="two raters are 'ann'"):
        read_raters([], [path, path])


@contextmanager
def opened(page: Path, width: int):
    """The page in a browser of its own, with all that it complains of or requests."""
    noted: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": width, "height": 740})
        tab.on("console", lambda message: noted.append(message.text))
        tab.on("pageerror", lambda error: noted.append(str(error)))
        tab.on("request", lambda request: noted.append(request.url))
        tab.goto(page.as_uri())
        yield tab
        browser.close()
    assert {each for each in noted if not each.startswith(("data:", "blob:"))} == {page.as_uri()}


def exported(tab, path: Path) -> list[dict]:
    with tab.expect_download() as download:
        tab.get_by_role("button", name="export").click()
    download.value.save_as(path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("width", [360, 1200])
def test_people_vote_by_keys_or_touch_and_their_votes_are_counted(images, width):
    for path in images.rglob("*.png"):  # as large as they usually are
        Image.open(path).resize((512, 512), Image.Resampling.NEAREST).save(path)
    page = images / "vote.html"
    done = run(
        "vote", images / "images", "--references", images / "references", "-o", page, "--pairs",
        "--most", 6,
    )  # fmt: skip
    assert "6 questions" in done.output
    with opened(page, width) as tab:
        expect(tab.get_by_role("status")).to_contain_text("1 of 6; 0 answered")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert (
            tab.locator("#judged img").count() == 2 and tab.locator(".references img").count() == 4
        )
        assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        for each in tab.locator("#judged img").all():  # both seen at once, above the choices
            box = each.bounding_box()
            assert box["y"] + box["height"] <= tab.locator("#choices").bounding_box()["y"] + 1
            assert box["x"] + box["width"] <= width
        button = tab.get_by_role("button", name="tie")
        assert button.bounding_box()["height"] >= 44
        button.click()
        for key in ("1", "3", "2"):
            tab.keyboard.press(key)
        expect(tab.get_by_role("status")).to_contain_text("5 of 6; 4 answered")
        tab.keyboard.press("ArrowLeft")
        expect(tab.get_by_role("button", name="tie")).to_have_attribute("aria-pressed", "true")
        tab.keyboard.press("1")  # another mind
        tab.get_by_label("your name").fill("ann=2")
        tab.get_by_label("your name").press("Tab")
        tab.reload()
        expect(tab.get_by_role("status")).to_contain_text("5 of 6; 4 answered")
        rows = exported(tab, images / "votes.csv")
        assert [row["answer"] for row in rows] == ["tie", "left", "right", "left"]
        assert tuple(rows[0]) == COLUMNS and {row["voter"] for row in rows} == {"ann=2"}
    counted = run("prefer", images / "images", "--votes", images / "votes.csv", "-o", images / "r")
    assert counted.exit_code == 0, counted.output
    found = json.loads((images / "r" / "preference.json").read_text())
    assert (
        sum(row["wins"] for row in found["between"])
        + sum(row["ties"] + row["losses"] for row in found["between"])
        == 4
    )
    methods = {picture_id(each.path): each.method for each in find_pictures(images / "images")}
    (won,) = {methods[row["picture"]] for row in rows[1:2]}
    assert any(row["method"] == won and row["wins"] for row in found["rows"])


def test_the_page_is_blind_and_its_votes_agree_with_a_judge_that_sees_the_same(images):
    pictures = find_pictures(images / "images")
    references = find_references(images / "references", pictures)
    page = images / "vote.html"
    assert write_voting_page(page, pictures, references, most=8) == 8
    text = page.read_text()
    assert not any(word in text for word in (*SHADES, "images/", ".png", str(images)))
    assert "</script" not in text.split('id="ballots">')[1].split("</script>")[0]
    with opened(page, 360) as tab:
        for _ in range(8):
            tab.keyboard.press("1")
        expect(tab.get_by_role("status")).to_contain_text("done, export them")
        rows = exported(tab, images / "votes.csv")
    assert len(rows) == 8 and {row["voter"] for row in rows} == {"anonymous"}
    with serving(lambda *_: says("yes")) as server:
        judged = run(
            "evaluate", images / "images", "--references", images / "references", "--judge",
            "openai:m", "--base-url", server.url, "-o", images / "r",
        )  # fmt: skip
    assert judged.exit_code == 0, judged.output
    done = run("agreement", images / "r", "--votes", images / "votes.csv", "-o", images / "a.json")
    assert done.exit_code == 0, done.output
    compared = json.loads((images / "a.json").read_text())["rows"]
    assert sum(row["pictures"] for row in compared) == 8
    assert all(row["accuracy"] == 1 for row in compared)
    with pytest.raises(LorararError, match="exists already"):
        write_voting_page(page, pictures, references)


def test_the_results_page_fits_a_phone_and_asks_no_other_host(images):
    hostile = "</script><img src=https://example.org/x onerror=alert(1)>" + "word" * 400
    with serving(lambda *_: says(hostile)) as server:
        assert run(
            "evaluate", images / "images", "--references", images / "references", "--judge",
            "openai:m", "--base-url", server.url, "-o", images / "r",
        ).exit_code == 0  # fmt: skip
    page = images / "r" / "index.html"
    with opened(page, 360) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert tab.locator("article").count() == 18

"""The page that `lorarar report` makes: its chapters, what it refuses, how a browser shows it."""

import json
import re
import subprocess
import sys
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from typer.testing import CliRunner

from lorarar import benchmarks
from lorarar.benchmarks import scaling
from lorarar.benchmarks.machine import Limits, Peak
from lorarar.benchmarks.report import make_console, write_json
from lorarar.benchmarks.screenshot import ARGUMENTS, CHROMIUM
from lorarar.cli import cli
from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.report.drawing import draw
from lorarar.report.page import STYLE, write_report
from lorarar.report.plots import Bar, BarPlot, describe
from lorarar.report.read import read_measurements
from lorarar.report.sections import sections_of
from lorarar.report.svg import THEME, to_svg
from lorarar.report.words import heading, shown
from lorarar.standin import standin_lora

RESULTS = Path(benchmarks.__file__).parent / "results"
MACHINE = {"cpu": "EPYC", "cores": 2, "system": "Linux x86_64", "python": "3.11"}
LIMITS = {"gflop_per_second": 100.0, "gigabytes_per_second": 20.0}
WORK = {"gflop": 22.0, "gigabytes": 0.34}
TIME = {"median_ms": 300.0, "min_ms": 280.0, "max_ms": 350.0}
RANGE = {"low_ms": 90.0, "high_ms": 400.0}
ROWS = {
    "headline": [
        {"name": "factored", "where": "host", **TIME, **WORK, "peak_megabytes": 3.0},
        {"name": "factored", "where": "emulated", "instructions": 4_500_000},
        {"name": "factored", "where": "Pixel 9", **TIME, **WORK},
        {"name": "factored", "where": "projected: Pixel", **RANGE, **WORK},
    ],
    "projection": [
        {"name": "a", "phone": "Pixel", "processor": "cpu", "work": "merge", **RANGE, **WORK},
        {"name": "b", "phone": "Pixel", "processor": "gpu", "work": "merge", **RANGE, **WORK},
    ],
    "merge_latency": [
        {"name": "factored, numpy", **TIME, **WORK},
        {"name": "prepared, runner", **TIME, **WORK, "median_ms": 4.0, "min_ms": 3.9},
        {"name": "file to file", **TIME, "gflop": None, "gigabytes": None},
    ],
    "pipeline_latency": [
        {"name": "onnxruntime", "step_ms": 11.3, "step_with_lora_ms": 12.2, "swap_ms": 2.0},
    ],
    "scaling": [
        {"name": "a", "varies": "rank", "form": "factored", "value": rank, "median_ms": rank * 2.0}
        for rank in (4, 256)
    ],
    "exported_quality": [{"name": "int8", "mb": 11.0, "median_psnr_db": 43.0}],
    "peers": [{"name": "ours", "step_plain_ms": 9, "step_pair_ms": 9.5, "peak_gb": 2.0}],
    "baked": [{"name": "slots", "kind": "style", "bits": 4, "right": 0.8, "right_low": 0.7}],
    "telescopes": [{"name": f"number {index}", "mirror": 8.2} for index in range(20)],
}
CLAIMS = [
    "claim: a pair below 1 s: supported (300 ms)",
    "claim: below 50 ms: not supported (300 ms)",
    "a note",
]
TITLES = [
    "Headline",
    "Projected phones",
    "Latency",
    "Roofline",
    "Scaling",
    "Quality against size",
    "Beside the peers",
    "LoRAs baked into few bits",
    "Other measurements",
]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$x_{\\frac{$&amp;_\x1b[31m雪"


def written(folder, name, benchmark, **changes):
    contents = {
        "schema": "lorarar.benchmark.1",
        "benchmark": benchmark,
        "machine": MACHINE | LIMITS,
        "settings": {"threads": 2, "dtype": "fp32", "command": None},
        "rows": ROWS.get(benchmark, [{"name": "x"}]),
        "notes": CLAIMS if benchmark == "headline" else [],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(contents | changes))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return [written(folder, benchmark, benchmark) for benchmark in ROWS]


@pytest.fixture(scope="module")
def page(files, tmp_path_factory):
    """A page with every chapter and, in other files, hostile text wherever text may be."""
    folder = tmp_path_factory.mktemp("page")
    hostile = [
        written(
            folder,
            f"hostile-{benchmark}",
            benchmark,
            rows=[
                {key: HOSTILE if isinstance(value, str) else value for key, value in row.items()}
                | {HOSTILE: HOSTILE}
                for row in rows
            ],
            notes=[HOSTILE, f"claim: {HOSTILE}: supported ({HOSTILE})"],
            settings={HOSTILE: HOSTILE},
            machine=MACHINE | LIMITS | {"cpu": HOSTILE},
            device={"kind": HOSTILE, "model": HOSTILE},
        )
        for benchmark, rows in ROWS.items()
        if benchmark in ("headline", "merge_latency", "scaling")
    ]
    hostile.append(written(folder, "hostile-name", HOSTILE))
    write_report([*files, *hostile], folder / "report.html")
    return folder / "report.html"


class Elements(HTMLParser):
    """Every element's name with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_every_chapter_appears_when_its_data_is_there(files):
    sections = sections_of(read_measurements(files))
    assert [section.title for section in sections] == TITLES
    assert all(section.plots for section in sections[:-1])
    tables = [each.benchmark for section in sections for each in section.measurements]
    assert sorted(tables) == sorted(ROWS)
    alone = sections_of(read_measurements([path for path in files if path.stem == "telescopes"]))
    assert [section.title for section in alone] == ["Other measurements"]


def test_claims_come_with_their_verdicts_and_notes_stay_notes(files, page):
    headline, *_ = sections_of(read_measurements(files))
    assert [claim.supported for claim in headline.claims] == [True, False]
    assert headline.claims[0] == ("a pair below 1 s", True, "300 ms")
    text = page.read_text()
    assert '<li class="no"><strong>not supported</strong> <span>below 50 ms' in text
    assert "<li>a note</li>" in text


def test_what_is_projected_is_named_so_and_drawn_hollow_and_dashed(files):
    plots = [plot for section in sections_of(read_measurements(files)) for plot in section.plots]
    kinds = set()
    for plot in plots:
        is_projected = plot.title.startswith("Projected: ")
        if isinstance(plot, BarPlot):
            bars = [bar for _, bars in plot.groups for bar in bars]
            assert {bar.projected for bar in bars} == {is_projected}
        dashed = "stroke-dasharray" in to_svg(draw(plot), plot.title, "x")
        assert dashed == is_projected, plot.title
        kinds.add((type(plot), is_projected))
    assert len(kinds) == 4  # bars and roofs, measured and projected


def test_a_projection_is_shown_beside_what_is_known_and_many_plots_are_folded(tmp_path):
    works = [{**ROWS["projection"][0], "work": f"step {index}"} for index in range(13)]
    check = {**ROWS["projection"][0], "name": "check: published", "known_ms": 80.0}
    path = written(tmp_path, "projection", "projection", rows=[*works, check])
    projection, roofline = sections_of(read_measurements([path]))
    name, bars = projection.plots[0].groups[0]
    assert name == "published" and [bar.projected for bar in bars] == [True, False]
    assert len(projection.plots) == 14 and len(roofline.plots[0].curves[0].points) == 13
    write_report([path], tmp_path / "o.html")
    assert "<summary>2 more plots</summary>" in (tmp_path / "o.html").read_text()


def test_a_phone_stands_beside_the_machine_but_not_below_its_roof(tmp_path):
    warm = [row | {"name": f"{row['name']}, warm"} for row in ROWS["merge_latency"]]
    device = {"kind": "adb", "model": "Pixel 9", "soc": "Tensor G4"}
    host = written(tmp_path, "host", "merge_latency")
    phone = written(tmp_path, "phone", "merge_latency", rows=warm, device=device)
    latency, roofline = sections_of(read_measurements([host, phone]))
    (plot,) = [plot for plot in latency.plots if plot.title == "The same in several places"]
    name, bars = plot.groups[0]
    assert name == "factored, numpy"
    assert [bar.series for bar in bars] == ["fp32, EPYC, 2 cores", "fp32, Pixel 9"]
    assert [plot.title for plot in roofline.plots] == ["merge_latency, fp32, EPYC, 2 cores"]
    write_report([host, phone], tmp_path / "o.html")
    assert "<span>host cpu <b>EPYC</b></span>" in (tmp_path / "o.html").read_text()


def test_below_the_roof_stands_only_what_the_machine_itself_did(files):
    (path,) = [path for path in files if path.stem == "headline"]
    headline, roofline = sections_of(read_measurements([path]))
    titles = [plot.title for plot in headline.plots]
    assert "Merging a pair, host" in titles and "Merging a pair, Pixel 9" in titles
    limits, *measured = roofline.plots[0].curves
    assert (limits.kind, len(measured)) == ("roof", 1)


def test_rows_may_lack_every_column_but_their_name(tmp_path):
    bare = [written(tmp_path, name, name, rows=[{"name": "x"}]) for name in ROWS]
    sections = sections_of(read_measurements(bare))
    assert not any(section.plots for section in sections)
    assert len(write_report(bare, tmp_path / "o.html")) == 2


@pytest.mark.filterwarnings("error")
def test_numbers_at_the_ends_of_what_is_read_are_drawn(tmp_path):
    rows = [
        {"name": "factored", **TIME, **WORK, **RANGE} | {key: value}
        for key, value in (("median_ms", -1.5), ("min_ms", 5e-324), ("gigabytes", 9e17))
    ]
    for number, each in enumerate(rows):
        path = written(tmp_path, f"odd-{number}", "merge_latency", rows=[each])
        for section in sections_of(read_measurements([path])):
            for plot in section.plots:
                assert "<text" in to_svg(draw(plot), plot.title, "x")


def test_a_page_holds_nothing_that_runs_or_is_fetched(page):
    elements = Elements(page.read_text()).found
    names = {name for name, _ in elements}
    assert {"svg", "table", "details", "h1", "h2", "h3"} <= names
    assert not names & {"script", "img", "iframe", "object", "embed", "image", "audio", "video"}
    for name, attributes in elements:
        assert not [key for key in attributes if key.startswith("on") or key == "src"], name
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:,")), attributes
    styles = re.findall(r"url\(([^)]*)\)|(@import)", page.read_text())
    assert styles and all(target.startswith("#") for target, _ in styles)


def test_hostile_text_is_shown_as_it_is(page):
    text = page.read_text()
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "雪" in text


def test_every_id_is_there_once_and_every_plot_says_what_it_shows(page):
    elements = Elements(page.read_text()).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for name, attributes in elements if name == "svg"]
    assert len(pictures) == sum(name == "figure" for name, _ in elements) > 10
    assert all(len(each["aria-label"]) > 20 and each["role"] == "img" for each in pictures)
    assert any("factored, numpy (numpy) 300" in each["aria-label"] for each in pictures)


def test_plots_come_as_png_too_and_force_replaces_their_folder(files, tmp_path):
    output, folder = tmp_path / "o.html", tmp_path / "plots"
    some = [path for path in files if path.stem in ("scaling", "telescopes")]
    written = write_report(some, output, folder)
    plots = list(folder.glob("*.png"))
    assert (written.measurements, written.plots) == (2, len(plots)) and plots
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    with pytest.raises(LorararError, match="--force"):
        write_report(some, output)
    with pytest.raises(LorararError, match="--force"):
        write_report(some, tmp_path / "p.html", folder)
    write_report(some, output, folder, force=True)
    (folder / "mine.txt").write_text("")
    with pytest.raises(LorararError, match=r"mine\.txt"):
        write_report(some, output, folder, force=True)


def test_colours_are_those_of_the_page_in_light():
    style = STYLE.read_text()
    for colour, variable in THEME.items():
        name = variable.removeprefix("var(").removesuffix(")")
        assert f"{name}: light-dark({colour}, #" in style


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": 1, "schema": 1}', "key 'schema' twice"),
        ("[]", "schema None"),
        ('{"schema": "lorarar.benchmark.2"}', "schema 'lorarar.benchmark.2'"),
    ],
)
def test_files_that_are_no_measurements_are_refused_in_a_line(text, reason, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(LorararError, match=rf"^\S*bad\.json: .*{re.escape(reason)}"):
        read_measurements([tmp_path / "bad.json"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": []}, "'rows' is empty"),
        ({"rows": [{"median_ms": 1}]}, "row 1 lacks 'name'"),
        ({"rows": [{"name": "x", "y": float("nan")}]}, "row 1: 'y' is no text, null or number"),
        ({"rows": [{"name": "x", "y": 10**400}]}, "row 1: 'y' is no text, null or number"),
        ({"rows": [{"name": "x", "y": True}]}, "row 1: 'y' is no text, null or number"),
        ({"rows": [{"name": "x", "y": []}]}, "row 1: 'y' is no text, null or number"),
        ({"rows": ["x"]}, "row 1 is no object"),
        ({"rows": None}, "'rows' has another type"),
        ({"machine": {"cpu": "x"}}, "'machine' lacks 'cores'"),
        ({"notes": [1]}, "'notes' holds other things than text"),
        ({"device": []}, "'device' is no object"),
    ],
)
def test_measurements_of_another_shape_are_refused_in_a_line(changes, reason, tmp_path):
    path = written(tmp_path, "bad", "merge_latency", **changes)
    with pytest.raises(LorararError, match=rf"bad\.json: {re.escape(reason)}"):
        read_measurements([path])


def test_a_bad_file_among_good_ones_leaves_nothing_behind(files, tmp_path):
    again = tmp_path / "again.json"
    again.write_bytes(files[0].read_bytes())
    runs = {
        "again.json: the same measurement as": again,
        "absent.json: does not exist": tmp_path / "absent.json",
    }
    for reason, path in runs.items():
        with pytest.raises(LorararError, match=reason):
            write_report([files[0], path], tmp_path / "o.html", tmp_path / "plots")
    assert list(tmp_path.iterdir()) == [again]


def test_the_command_writes_a_page_and_says_so(files, tmp_path):
    output = tmp_path / "o.html"
    named = [str(path) for path in files if path.stem in ("peers", "telescopes")]
    done = CliRunner().invoke(cli, ["report", *named, "-o", str(output)])
    assert done.exit_code == 0 and "o.html: 2 measurements, 2 plots" in " ".join(
        done.output.split()
    )
    assert output.read_text().startswith("<!doctype html>")


def test_every_result_that_is_kept_is_read_and_shown():
    kept = sorted(RESULTS.glob("*.json"))
    sections = sections_of(read_measurements(kept))
    assert sum(len(section.measurements) for section in sections) == len(kept) > 5


def test_other_commands_import_no_matplotlib():
    code = "import sys, lorarar.cli; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_a_line_says_what_to_install(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LorararError, match=r"pip install 'lorarar\[plot\]'"):
        write_report(files, tmp_path / "o.html")
    assert not list(tmp_path.iterdir())


def test_a_browser_shows_the_page_at_any_width_without_complaint(page):
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for width in (360, 1400):
            tab = browser.new_page(viewport={"width": width, "height": 800})
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(page.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            beyond = """() => [...document.querySelectorAll("svg, h1, h2, h3, p, li, summary")]
                .filter(element => element.getBoundingClientRect().right > innerWidth)
                .map(element => element.outerHTML.slice(0, 200))"""
            assert tab.evaluate(beyond) == []
        browser.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {page.as_uri()}


def test_figures_keep_three_digits_and_columns_their_unit():
    values = (None, "x", 0, 0.01234, 13.97, 99.96, 1087.4, 2_500_000, 4.5e9, 1e20)
    wanted = "- x 0 0.0123 14.0 100 1,087 2.5_million 4.5_billion 1e+20"
    assert [shown(value).replace(" ", "_") for value in values] == wanted.split()
    columns = ("median_ms", "gflop", "above_35_db", "times_dense", "ms")
    assert [*map(heading, columns)] == ["median, ms", "GFLOP", "above 35 db", "times dense", "ms"]


def test_scaling_measures_each_form_along_each_axis(tmp_path, monkeypatch):
    shapes = {"mid.attn1.to_q": (640, 8), "mid.attn1.to_k": (640, 8)}
    monkeypatch.setattr(scaling, "SHAPES", {"sdxl": shapes, "koala-700m": shapes})
    small = {"RANKS": (1, 2), "WIDTHS": (8, 16), "BASES": ("koala-700m",), "STORED": (2, 4)}
    for name, value in small.items():
        monkeypatch.setattr(scaling, name, value)
    monkeypatch.setattr(scaling, "measure_limits", lambda: Limits(1.0, 1.0))
    monkeypatch.setattr(scaling, "peak_memory", lambda: nullcontext(Peak(1.0)))
    report = scaling.measure("numpy", threads=1, rounds=1, console=make_console())
    jsonschema.validate(report.to_json(), json.loads((RESULTS.parent / "schema.json").read_text()))
    write_json(report, tmp_path / "scaling.json")
    (section,) = sections_of(read_measurements([tmp_path / "scaling.json"]))
    titles = [plot.title for plot in section.plots]
    assert "Time of a merge by rank" in titles and "LoRAs held by stored LoRAs" in titles
    points = [(row["varies"], row["form"], row["value"]) for row in report.rows]
    assert len(points) == len(set(points)) == 2 * 3 + 2 * 3 + 3 + 2 * 2


def test_held_bytes_are_those_of_the_factors_and_features():
    lora, hypernet = standin_lora("koala-700m", 2, seed=0), Hypernet.random(hidden=8)
    plain = sum(2 * 2 * sum(layer.shape) for layer in lora.layers.values())
    assert scaling.held_bytes(lora) == plain
    prepared = scaling.prepare(lora, hypernet, "content", "full-int8")
    predicted = [layer for name, layer in lora.layers.items() if hypernet.predicted(name)]
    kept = sum(8 * layer.shape[1] + 4 * 8 for layer in predicted)
    assert scaling.held_bytes(prepared) == plain + kept


def test_pairs_are_drawn_from_both_roles_and_come_again():
    drawn = scaling.drawn_pairs(["c0", "s0", "c1", "s1"])
    pairs = {next(drawn) for _ in range(40)}
    assert pairs == {(content, style) for content in ("c0", "c1") for style in ("s0", "s1")}
    assert np.array_equal(*[next(scaling.drawn_pairs(list("abcd"))) for _ in range(2)])


def test_times_beyond_a_minute_are_told_in_seconds():
    bars = [Bar("", 12.0, 13.0, 12.5), Bar("", 4_000_000, 5_000_000, projected=True)]
    plot = BarPlot("Merge", "ms", [("prepared", bars[:1]), ("ZipLoRA", bars[1:])])
    assert describe(plot) == "Merge, s: prepared 0.0125; ZipLoRA 4,000 to 5,000"
    assert describe(BarPlot("Merge", "ms", [("prepared", bars[:1])])) == "Merge, ms: prepared 12.5"

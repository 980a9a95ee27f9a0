"""The page in a browser, as people use it: mouse, files, keyboard, phone."""

import io
from base64 import b64decode, b64encode

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from safetensors.numpy import load_file, save

from lorarar.artefacts.picture import read_png
from lorarar.benchmarks.screenshot import ARGUMENTS, CHROMIUM, served
from lorarar.embedded import LORAS
from lorarar.lora import load_lora
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve import thumbnails
from lorarar.serve.app import make_app

WATCH_STEPS = """() => {
    const step = document.getElementById("step");
    window.steps = [];
    new MutationObserver(() => steps.push(step.textContent)).observe(step, { childList: true });
}"""
UNNAMED = """() =>
    [...document.querySelectorAll("input, select, textarea, button, a, img, progress")]
    .filter((each) => each.checkVisibility() && !each.closest("[aria-hidden]"))
    .filter((each) => ![each.ariaLabel, each.alt, each.textContent, each.querySelector("img")?.alt,
        each.labels?.[0]?.textContent].some((name) => name?.trim()))
    .map((each) => each.outerHTML)"""


@pytest.fixture(scope="module")
def address(exported_int8, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(thumbnails, "IDLE", 0.2)
        pipeline = Pipeline.load(exported_int8, threads=1)
        with served(make_app(pipeline, LORAS, tmp_path_factory.mktemp("uploads"))) as address:
            yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, whose console stays empty, but for refusals."""
    said = []
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    expect(page.get_by_label("Content LoRA", exact=True)).not_to_be_empty()
    yield page
    page.close()
    assert [line for line in said if "400" not in line] == []


def pick(page, content="votol", style="neon"):
    page.get_by_label("Content LoRA", exact=True).select_option(content)
    page.get_by_label("Style LoRA", exact=True).select_option(style)


def drawn(page):
    expect(page.get_by_role("status")).to_contain_text("Drawn in", timeout=30_000)
    return page.locator("#picture").get_attribute("src")


def drop(where, name, content):
    """Drop a file there, as a file manager would."""
    transfer = where.page.evaluate_handle(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [name, b64encode(content).decode()],
    )
    where.dispatch_event("drop", {"dataTransfer": transfer})


def test_a_person_draws_drops_a_file_cancels_and_goes_back(page):
    style = page.get_by_label("Style LoRA", exact=True)
    prompt, status = page.get_by_label("Prompt", exact=True), page.get_by_role("status")
    picture = page.locator("#picture")
    draw_button = page.get_by_role("button", name="Draw", exact=True)

    pick(page)
    expect(prompt).to_have_value("a votol cup in neon style")
    page.get_by_label("Style strength").fill("1.5")
    expect(page.get_by_text("1.50")).to_be_visible()
    page.evaluate(WATCH_STEPS)
    draw_button.click()
    first = drawn(page)
    expect(page.get_by_text("Merged in")).to_contain_text("ms")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 20)
    assert "Step 20 of 20" in page.evaluate("steps")
    assert picture.evaluate("image => image.naturalWidth") == 64

    card = page.get_by_role("group", name="Style")
    drop(card, "mine.safetensors", (LORAS / "ink.safetensors").read_bytes())
    expect(style).to_have_value("mine")
    drop(card, "bad.safetensors", b"no LoRA")
    expect(page.get_by_role("alert")).to_contain_text("bad.safetensors: not a valid")
    prompt.fill("a votol cup")
    prompt.press("Enter")
    expect(page.locator("#history li")).to_have_count(2, timeout=30_000)
    expect(page.get_by_role("alert")).to_be_empty()
    assert picture.get_attribute("src") != first

    page.get_by_label("Steps", exact=True).fill("300")
    draw_button.click()
    expect(page.locator("#step")).to_contain_text("of 300")
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_have_text("Cancelled")

    page.locator("#history button").last.click()
    expect(prompt).to_have_value("a votol cup in neon style")
    expect(style).to_have_value("neon")
    assert picture.get_attribute("src") == first


def test_what_takes_no_part_is_said_before_anything_is_drawn(page):
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    factors = {"lora_A": np.ones((2, 64), np.float16), "lora_B": np.ones((64, 2), np.float16)}
    tensors = {f"{layer}.{part}.weight": factor for part, factor in factors.items()}
    content = save(tensors | load_file(LORAS / "ink.safetensors"))
    drop(page.get_by_role("group", name="Style"), "text.safetensors", content)
    said = page.get_by_text("layers of text encoders (1) take no part")
    expect(said).to_be_visible()
    page.get_by_label("Style LoRA", exact=True).select_option("ink")
    expect(said).to_have_count(0)


def test_one_click_draws_the_direct_sum_beside_with_the_same_seed(page):
    pick(page)
    page.get_by_label("Steps", exact=True).fill("4")
    page.get_by_label("Seed").fill("-1")
    page.get_by_role("button", name="Compare with direct sum").click()
    drawn(page)
    figures = page.get_by_role("figure")
    expect(figures).to_have_count(2)
    assert figures.all_inner_texts() == ["LoRA.rar", "Direct sum"]
    facts = [
        read_png(io.BytesIO(b64decode(source.partition(",")[2])), "it")
        for source in figures.get_by_role("img").evaluate_all("all => all.map((i) => i.src)")
    ]
    assert [each.method for each in facts] == ["lorarar", "direct"]
    assert facts[0].seed == facts[1].seed
    expect(page.get_by_role("status")).to_contain_text(f"seed {facts[0].seed}")


def test_every_option_is_asked_for_and_comes_back_from_the_picture(page):
    chosen = {"Guidance": "3.5", "Width": "96", "Height": "48", "Negative prompt": "grey"}
    lists = {"Sampler": "dpm++2m", "Method": "direct", "Content LoRA": "kytol"}
    pick(page, "kytol", "ink")
    page.get_by_text("More options").click()
    page.get_by_label("Steps", exact=True).fill("4")
    for label, value in chosen.items():
        page.get_by_label(label, exact=True).fill(value)
    for label, value in lists.items():
        page.get_by_label(label, exact=True).select_option(value)
    page.get_by_role("button", name="Draw", exact=True).click()
    drawn(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save picture").click()
    assert download.value.suggested_filename == "kytol-ink-0.png"
    picture = download.value.path().read_bytes()
    assert Image.open(io.BytesIO(picture)).size == (96, 48)

    page.reload()
    page.get_by_text("More options").click()
    drop(page.locator("body"), "kytol-ink-0.png", picture)
    for label, value in (chosen | lists | {"Steps": "4"}).items():
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.get_by_role("alert")).to_be_empty()
    drop(page.locator("body"), "other.png", b"no picture")
    expect(page.get_by_role("alert")).to_contain_text("no picture, or damaged")


def test_a_value_that_cannot_be_is_shown_where_it_is(page):
    page.get_by_text("More options").click()
    guidance = page.get_by_label("Guidance")
    guidance.fill("51")
    page.get_by_text("More options").click()
    expect(guidance).not_to_be_visible()
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(guidance).to_be_focused()
    expect(page.get_by_role("status")).to_be_empty()


def test_the_merged_lora_is_saved_as_it_drew(page, tmp_path):
    pick(page)
    page.get_by_label("Content strength").fill("0.5")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Draw", exact=True).click()
    drawn(page)
    page.get_by_label("Content strength").fill("2")  # not what drew
    page.get_by_label("Layout of the merged LoRA").select_option("kohya")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save merged LoRA").click()
    name = download.value.suggested_filename
    assert name == "votol-neon-lorarar.safetensors"
    download.value.save_as(tmp_path / name)
    merged = load_lora(tmp_path / name)
    assert merged.metadata["lorarar.content_scale"] == "0.5" and len(merged.layers) == 56


def test_thumbnails_come_and_choose(page):
    strip = page.locator("[data-role=content] .strip")
    image = strip.locator("li img").first
    expect(image).to_have_attribute("src", "thumbnails/ximek", timeout=20_000)
    expect(image).to_have_js_property("naturalWidth", 64)
    strip.locator("li", has_text="qetol").locator("button").click()
    expect(page.get_by_label("Content LoRA", exact=True)).to_have_value("qetol")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a qetol boat in ink style")


def test_the_keyboard_reaches_everything_and_everything_has_a_name(page):
    pick(page)
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_text("More options").click()
    page.get_by_role("button", name="Draw", exact=True).focus()
    page.keyboard.press("Enter")
    drawn(page)
    assert page.evaluate(UNNAMED) == []
    page.get_by_label("Content LoRA", exact=True).focus()
    reached = []
    for _ in range(40):
        reached.append(
            page.evaluate(
                "document.activeElement.name || document.activeElement.id"
                " || document.activeElement.tagName"
            )
        )
        page.keyboard.press("Tab")
    wanted = ["content", "content_scale", "style", "style_scale", "prompt", "steps", "seed"]
    wanted += ["SUMMARY", "negative_prompt", "guidance", "sampler", "width", "height", "method"]
    wanted += ["read", "draw", "compare", "save-picture", "save-lora", "layout", "BUTTON"]
    places = [reached.index(name) for name in wanted]
    assert places == sorted(places)


def test_a_phone_shows_it_all_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 360, "height": 740})
    pick(page)
    page.get_by_text("More options").click()
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Compare with direct sum").click()
    drawn(page)
    expect(page.locator("#beside")).to_be_in_viewport()
    for width in (320, 360, 768):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") == width

"""What does `lorarar serve` look like? Draws in a headless Chromium and keeps its picture.

lorarar export onnx -o exported && python benchmarks/screenshot.py exported
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from socket import create_server
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated

import typer
import uvicorn
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from starlette.applications import Starlette

from lorarar.command import run_script
from lorarar.embedded import LORAS
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve.app import make_app

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAIRS = [("kytol", "frost"), ("votol", "neon"), ("jumek", "ink"), ("ximek", "watercolour")]
WIDTH, HEIGHT, QUALITY = 900, 700, 80
THUMBNAILS = """() => [...document.querySelectorAll(".strip li")].every((item) => {
    const [own, strip] = [item, item.parentElement].map((each) => each.getBoundingClientRect());
    const hidden = own.right < strip.left || own.left > strip.right;
    return hidden || item.querySelector("img").naturalWidth;
})"""


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve on a free port within this context; gives the address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """A page in a headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        yield page
        browser.close()


def main(
    exported: Path,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("benchmarks/results/serve.webp"),
) -> None:
    """Draw a few pairs of embedded LoRAs on the page and write what it looks like."""
    with TemporaryDirectory() as uploads:
        app = make_app(Pipeline.load(exported), LORAS, Path(uploads))
        with served(app) as address, opened(address) as page:
            for content, style in PAIRS:
                page.get_by_label("Content LoRA", exact=True).select_option(content)
                page.get_by_label("Style LoRA", exact=True).select_option(style)
                page.get_by_role("button", name="Draw", exact=True).click()
                expect(page.get_by_role("status")).to_contain_text("Drawn in", timeout=600_000)
            page.wait_for_function(THUMBNAILS, timeout=600_000)
            screen = page.screenshot()
    Image.open(BytesIO(screen)).save(output, quality=QUALITY)
    typer.echo(f"{output}: {output.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    run_script(main)

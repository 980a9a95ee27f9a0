"""Pictures, drawn one at a time in the order asked, with news of each step."""

import asyncio
import logging
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

from PIL import Image

from lorarar.errors import LorararError
from lorarar.runtime.pipeline import Cancelled, Pipeline

RANGES = {  # of a wish's numbers; also the page's
    "content_scale": (0, 2),
    "style_scale": (0, 2),
    "steps": (1, 100),
    "seed": (0, 2**32 - 1),
}

News = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What to draw. content, style: names of LoRAs."""

    content: str
    style: str
    prompt: str
    content_scale: float = 1.0
    style_scale: float = 1.0
    steps: int = 20
    seed: int = 0


def read_wish(given: Any) -> Wish:
    """Raises LorararError unless each field is there, of its type and in its range."""
    try:
        wish = Wish(**given)
    except TypeError as error:
        raise LorararError(f"this is nothing to draw ({error}); reload the page") from error
    for about in fields(Wish):
        value = getattr(wish, about.name)
        wanted = (int, float) if about.type is float else about.type
        if not isinstance(value, wanted):  # type: ignore[arg-type]
            raise LorararError(f"{about.name} cannot be {value!r:.80}; reload the page")
    for name, (least, most) in RANGES.items():
        if not least <= getattr(wish, name) <= most:
            raise LorararError(f"{name} must be from {least} to {most}")
    return wish


@dataclass
class Drawer:
    """One thread that draws. jobs: not done yet when last looked at; stopping: ends them all."""

    pipeline: Pipeline
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    jobs: list[Future] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    @property
    def method(self) -> str:
        return "lorarar" if self.pipeline.merger else "direct"

    async def draw(self, wish: Wish, content: Path, style: Path) -> AsyncGenerator[News, None]:
        """Yield what happens, as it does: `ahead`, pictures that are drawn before this one;
        `merged`, in milliseconds; `step`, `of`; `picture`, a PNG's data URL. Or `error`, a line.

        Closing the iterator cancels the picture.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[News | None] = asyncio.Queue()
        cancelled = Event()

        def tell(happened: News | None) -> None:
            loop.call_soon_threadsafe(news.put_nowait, happened)

        self.jobs = [job for job in self.jobs if not job.done()]
        yield {"ahead": len(self.jobs)}
        job = self.thread.submit(self._work, wish, content, style, tell, cancelled)
        self.jobs.append(job)
        job.add_done_callback(lambda _: tell(None))
        try:
            while (happened := await news.get()) is not None:
                yield happened
        finally:
            cancelled.set()
            job.cancel()

    def _work(
        self,
        wish: Wish,
        content: Path,
        style: Path,
        tell: Callable[[News], None],
        cancelled: Event,
    ) -> None:
        def on_step(step: int, of: int) -> bool:
            tell({"step": step, "of": of})
            return not (cancelled.is_set() or self.stopping.is_set())

        scales = wish.content_scale, wish.style_scale
        try:
            started = time.perf_counter()
            self.pipeline.set_pair(content, style, *scales, method=self.method)
            tell({"merged": (time.perf_counter() - started) * 1e3})
            picture = self.pipeline.generate(
                wish.prompt, steps=wish.steps, seed=wish.seed, on_step=on_step
            )
            tell({"picture": _data_url(picture)})
        except Cancelled:
            pass
        except LorararError as error:
            tell({"error": str(error)})
        except Exception as error:
            logging.exception("a picture could not be drawn")
            tell({"error": f"could not draw ({type(error).__name__}); the terminal says more"})


def _data_url(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"

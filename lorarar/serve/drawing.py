"""Pictures, drawn one at a time in the order asked, with an event for each step."""

import asyncio
import logging
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event as Flag
from typing import Any, TypedDict, get_type_hints

from PIL import Image

from lorarar.errors import LorararError
from lorarar.methods.factored import FactoredName
from lorarar.runtime.pipeline import Pipeline

RANGES = {  # of a request's numbers; also the page's
    "content_scale": (0, 2),
    "style_scale": (0, 2),
    "steps": (1, 100),
    "seed": (0, 2**32 - 1),
}


class Event(TypedDict, total=False):
    """One of these, and `of` beside `step`; see `Drawer.draw`."""

    ahead: int
    merged: float
    step: int
    of: int
    picture: str
    error: str


@dataclass(frozen=True)
class DrawRequest:
    """What to draw. content, style: names of LoRAs."""

    content: str
    style: str
    prompt: str
    content_scale: float = 1.0
    style_scale: float = 1.0
    steps: int = 20
    seed: int = 0


def read_request(given: Any) -> DrawRequest:
    """Return what JSON asks for.

    Raises LorararError unless each field is there, of its type and in its range.
    """
    try:
        request = DrawRequest(**given)
    except TypeError as error:
        raise LorararError(f"this is nothing to draw ({error}); reload the page") from error
    for name, kind in get_type_hints(DrawRequest).items():
        value = getattr(request, name)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise LorararError(f"{name} cannot be {value!r:.80}; reload the page")
    for name, (least, most) in RANGES.items():
        if not least <= getattr(request, name) <= most:
            raise LorararError(f"{name} must be from {least} to {most}")
    return request


@dataclass
class Drawer:
    """One thread that draws. jobs: not done yet when last looked at; stopping: ends them all."""

    pipeline: Pipeline
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    jobs: list[Future[None]] = field(default_factory=list)
    stopping: Flag = field(default_factory=Flag)

    @property
    def method(self) -> FactoredName:
        """How pairs are merged: by the folder's hypernetwork, if it has one."""
        return "lorarar" if self.pipeline.manifest.merger else "direct"

    async def draw(
        self, request: DrawRequest, content: Path, style: Path
    ) -> AsyncGenerator[Event, None]:
        """Yield events, as they happen: `ahead`, pictures that are drawn before this one;
        `merged`, in milliseconds; `step`, `of`; `picture`, a PNG's data URL. Or `error`, a line.

        Closing the iterator cancels the picture.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        cancelled = Flag()

        def send(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def is_cancelled() -> bool:
            return cancelled.is_set() or self.stopping.is_set()

        self.jobs = [job for job in self.jobs if not job.done()]
        yield {"ahead": len(self.jobs)}
        job = self.thread.submit(
            self._work, request, content, style, send=send, is_cancelled=is_cancelled
        )
        self.jobs.append(job)
        job.add_done_callback(lambda _: send(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            cancelled.set()
            job.cancel()

    def _work(
        self,
        request: DrawRequest,
        content: Path,
        style: Path,
        *,
        send: Callable[[Event], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        scales = request.content_scale, request.style_scale
        try:
            started = time.perf_counter()
            self.pipeline.set_pair(content, style, *scales, method=self.method)
            send({"merged": (time.perf_counter() - started) * 1e3})
            drawing = self.pipeline.steps(request.prompt, steps=request.steps, seed=request.seed)
            for step, latents in enumerate(drawing, 1):
                send({"step": step, "of": request.steps})
                if is_cancelled():
                    return
                if step == request.steps:
                    send({"picture": _data_url(self.pipeline.decode(latents))})
        except LorararError as error:
            send({"error": str(error)})
        except Exception as error:
            logging.exception("a picture could not be drawn")
            send({"error": f"could not draw ({type(error).__name__}); the terminal says more"})


def _data_url(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"

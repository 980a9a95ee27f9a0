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
from typing import TypedDict

from lorarar.artefacts.picture import save_png
from lorarar.errors import LorararError
from lorarar.methods.factored import FactoredName
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.request import DrawRequest


class Event(TypedDict, total=False):
    """`ahead`, `seed` and `notes`, or one of the others, and `of` beside `step`; see
    `Drawer.draw`."""

    ahead: int
    seed: int
    notes: list[str]
    merged: float
    step: int
    of: int
    picture: str
    error: str


@dataclass
class Drawer:
    """One thread that draws. jobs: not done yet when last looked at; stopping: ends them all."""

    pipeline: Pipeline
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    jobs: list[Future[None]] = field(default_factory=list)
    stopping: Flag = field(default_factory=Flag)

    @property
    def method(self) -> FactoredName:
        """How pairs are merged unless asked otherwise: by the folder's hypernetwork, if it has
        one."""
        return "lorarar" if self.pipeline.manifest.merger else "direct"

    @property
    def ahead(self) -> int:
        """How many pictures are drawn before one that is asked for now."""
        return sum(not job.done() for job in self.jobs)

    async def draw(
        self, request: DrawRequest, content: Path, style: Path
    ) -> AsyncGenerator[Event, None]:
        """Yield events, as they happen: `ahead`, pictures that are drawn before this one, `seed`
        and `notes`, what of the prompts is left out; `merged`, in milliseconds; `step`, `of`;
        `picture`, a PNG's data URL. Or `error`, a line.

        request: settled. Closing the iterator cancels the picture.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        cancelled = Flag()

        def send(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def is_cancelled() -> bool:
            return cancelled.is_set() or self.stopping.is_set()

        self.jobs = [job for job in self.jobs if not job.done()]
        notes = request.notes(self.pipeline)
        yield {"ahead": self.ahead, "seed": request.seed, "notes": notes}
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
        try:
            started = time.perf_counter()
            request.merge(self.pipeline, content, style)
            send({"merged": (time.perf_counter() - started) * 1e3})
            facts = request.facts(self.pipeline, content, style)
            for step, latents in enumerate(request.draw(self.pipeline), 1):
                send({"step": step, "of": request.steps})
                if is_cancelled():
                    return
                if step == request.steps:
                    file = BytesIO()
                    save_png(self.pipeline.decode(latents), file, facts)
                    send({"picture": _data_url(file.getvalue())})
        except LorararError as error:
            send({"error": str(error)})
        except Exception as error:
            logging.exception("a picture could not be drawn")
            send({"error": f"could not draw ({type(error).__name__}); the terminal says more"})


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"

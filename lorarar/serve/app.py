"""The page and what it asks for: LoRAs, their thumbnails, files to keep, pictures to draw."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lorarar.artefacts.picture import read_png
from lorarar.errors import LorararError
from lorarar.hypernet import ROLES
from lorarar.methods.factored import FACTORED
from lorarar.methods.scheduled import SCHEDULED
from lorarar.runtime.limits import draws_any_size, size_unit
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.request import RANGES, DrawRequest, lora_facts, read_request
from lorarar.runtime.samplers import SAMPLERS
from lorarar.save import LAYOUTS
from lorarar.serve.drawing import Drawer
from lorarar.serve.guard import guard
from lorarar.serve.loras import LARGEST, OfferedLora, keep_upload
from lorarar.serve.merged import MergedFiles
from lorarar.serve.shelf import Listing, Shelf
from lorarar.serve.thumbnails import Thumbnails

HERE = Path(__file__).parent
PAGE = {"/": HERE / "page.html", "/page.css": HERE / "page.css"}
PAGE |= {f"/{file.name}": file for file in HERE.glob("*.js")}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
}
LARGEST_REQUEST = 100_000  # bytes
LARGEST_PICTURE = 100_000_000  # bytes of one that is dropped


class Asked(NamedTuple):
    """A request for a pair, the pair's files, and what else is asked for."""

    request: DrawRequest
    content: Path
    style: Path
    layout: str = ""


@dataclass(frozen=True)
class Answers:
    """What the server answers: a method for each address. uploads: a folder for files dropped."""

    pipeline: Pipeline
    uploads: Path
    drawer: Drawer
    shelf: Shelf
    thumbnails: Thumbnails
    merged: MergedFiles

    async def about(self, request: Request) -> Response:
        """Say what there is to choose from."""
        listing = await run_in_threadpool(self.shelf.listing)
        return JSONResponse(_about(self.pipeline, listing) | {"method": self.drawer.method})

    async def thumbnail(self, request: Request) -> Response:
        """Send a LoRA's thumbnail: 202 if it is yet to be drawn, 204 if there will be none."""
        listing = await run_in_threadpool(self.shelf.listing)
        choice = listing.offered.get(request.path_params["name"])
        if choice is None:
            raise HTTPException(404, "there is no such LoRA")
        image = await run_in_threadpool(self.thumbnails.get, choice.file)
        if image is None:
            self.thumbnails.ask_for(choice.file, choice.prompt)
            return Response(status_code=202)
        return Response(image, 200 if image else 204, {"Cache-Control": "no-cache"}, "image/webp")

    async def upload(self, request: Request) -> Response:
        """Keep a LoRA."""
        name, chunks = request.path_params["name"], request.stream()
        file = await keep_upload(name, chunks, self.uploads, self.pipeline)
        return JSONResponse({"name": file.stem}, 201)

    async def draw(self, request: Request) -> Response:
        """Draw a picture: a line of JSON for each event."""
        asked = await self._read(request)
        return StreamingResponse(_lines(self.drawer, asked), media_type="application/x-ndjson")

    async def merge(self, request: Request) -> Response:
        """Merge a pair into a file, and say where it is."""
        asked = await self._read(request, "layout")
        key = await run_in_threadpool(self.merged.write, *asked)
        return JSONResponse({"url": f"merged/{key}", "name": self.merged.made[key].name}, 201)

    async def send_merged(self, request: Request) -> Response:
        """Send a merged file."""
        file = self.merged.made.get(request.path_params["key"])
        if file is None:
            raise HTTPException(404, "this file is no longer kept; save it again")
        return FileResponse(file, filename=file.name, media_type="application/octet-stream")

    async def read_picture(self, request: Request) -> Response:
        """Say what drew a picture."""
        content = BytesIO(await request.body())
        listing = await run_in_threadpool(self.shelf.listing)
        return JSONResponse(await run_in_threadpool(_fields_of, content, listing, self.pipeline))

    async def _read(self, request: Request, *besides: str) -> Asked:
        """Read what is asked for a pair; besides: fields that are no part of drawing it."""
        try:
            fields = dict(await request.json())
        except (ValueError, TypeError, RecursionError) as error:
            raise LorararError(f"this is no JSON object ({error}); reload the page") from error
        choices = (await run_in_threadpool(self.shelf.listing)).offered
        names = [str(fields.pop(role, "")) for role in ROLES]
        for name in names:
            if name not in choices:
                raise LorararError(f"there is no LoRA '{name:.80}'; reload the page")
        content, style = (choices[name].file for name in names)
        rest = {name: str(fields.pop(name, "")) for name in besides}
        return Asked(read_request(fields).settled(self.pipeline), content, style, **rest)


def make_app(
    pipeline: Pipeline, loras: Path | None, uploads: Path, allowed: Collection[str] = ()
) -> Starlette:
    """loras: a folder of them, perhaps with a manifest; uploads: a folder for those dropped;
    allowed: see `guard`.

    `state.drawer.stopping` ends the pictures that are being drawn; `state.shelf` has the LoRAs.

    Raises LorararError if `loras` does not exist.
    """
    drawer, shelf = Drawer(pipeline), Shelf(pipeline, loras, uploads)
    shelf.listing()
    thumbnails, merged = Thumbnails(drawer), MergedFiles(pipeline, uploads / "merged")
    answers = Answers(pipeline, uploads, drawer, shelf, thumbnails, merged)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        idle = asyncio.create_task(thumbnails.draw_when_idle())
        with drawer.thread:
            yield
            idle.cancel()

    app = Starlette(
        routes=[
            *(Route(path, partial(_send, file)) for path, file in PAGE.items()),
            Route("/about", answers.about),
            Route("/loras/{name}", answers.upload, methods=["PUT"]),
            Route("/thumbnails/{name}", answers.thumbnail),
            Route("/draw", answers.draw, methods=["POST"], max_body_size=LARGEST_REQUEST),
            Route("/merged", answers.merge, methods=["POST"], max_body_size=LARGEST_REQUEST),
            Route("/merged/{key}", answers.send_merged),
            Route(
                "/picture", answers.read_picture, methods=["POST"], max_body_size=LARGEST_PICTURE
            ),
        ],
        middleware=[Middleware(guard, allowed=allowed)],
        exception_handlers={
            LorararError: lambda request, error: _refuse(str(error), 400),
            ClientDisconnect: lambda request, error: _refuse("gone", 400),
            HTTPException: lambda request, error: _refuse(error.detail, error.status_code),
            Exception: lambda request, error: _refuse("failed; the terminal says more", 500),
        },
        lifespan=lifespan,
    )
    app.state.drawer, app.state.shelf = drawer, shelf
    return app


async def _send(file: Path, request: Request) -> Response:
    return FileResponse(file, headers=HEADERS)


def _refuse(line: str, status: int) -> Response:
    return JSONResponse({"error": line}, status)


def _about(pipeline: Pipeline, listing: Listing) -> dict[str, Any]:
    made, side = pipeline.manifest, pipeline.manifest.side * pipeline.manifest.pixels
    return {
        "pipeline": f"{made.base}, {made.quantize}, {side} x {side} pixels",
        "methods": [*FACTORED, *SCHEDULED],
        "samplers": [*SAMPLERS],
        "sampler": pipeline.schedule.sampler or next(iter(SAMPLERS)),
        "layouts": LAYOUTS,
        "side": side,
        "size_unit": size_unit(made) if draws_any_size(made) else 0,
        "largest": LARGEST,
        "ranges": RANGES,
        "loras": [_describe(name, choice) for name, choice in listing.offered.items()],
        "skipped": listing.skipped,
    }


def _describe(name: str, choice: OfferedLora) -> dict[str, Any]:
    about = asdict(choice)
    del about["file"]
    return {"name": name} | about


def _fields_of(picture: BytesIO, listing: Listing, pipeline: Pipeline) -> dict[str, Any]:
    """What of the page's form drew a picture, and notes on what is not the same here."""
    facts = read_png(picture, "this picture")
    fields, notes = asdict(facts), []
    for role, lora in zip(ROLES, (facts.content, facts.style), strict=True):
        fields |= {role: lora.name, f"{role}_scale": lora.scale}
        choice = listing.offered.get(lora.name)
        if choice is None:
            notes.append(f"there is no LoRA '{lora.name}' here")
        elif lora_facts(choice.file, lora.scale) != lora:
            notes.append(f"the LoRA '{lora.name}' here is another file")
    for name, known in (("method", (*FACTORED, *SCHEDULED)), ("sampler", SAMPLERS)):
        if fields[name] not in known:
            notes.append(f"{name} '{fields[name]}' is not on this page")
    if facts.model_identity != pipeline.manifest.identity:
        other = "another model" if facts.model_identity else "torch"
        notes.append(f"it was drawn with {other} ({facts.model})")
    return fields | {"notes": notes}


async def _lines(drawer: Drawer, asked: Asked) -> AsyncIterator[str]:
    async with aclosing(drawer.draw(*asked[:3])) as events:
        async for event in events:
            yield json.dumps(event) + "\n"

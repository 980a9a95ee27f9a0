"""The page and what it asks for: the LoRAs there are, a file to keep, a picture to draw."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lorarar.errors import LorararError
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve.drawing import RANGES, Drawer, DrawRequest, read_request
from lorarar.serve.guard import guard
from lorarar.serve.loras import LARGEST, OfferedLora, keep_upload, list_loras

PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
}
LARGEST_REQUEST = 100_000  # bytes


def make_app(pipeline: Pipeline, loras: Path | None, uploads: Path) -> Starlette:
    """loras: a folder of them, perhaps with a manifest; uploads: a folder for those dropped.

    `state.drawer.stopping` ends the pictures that are being drawn.

    Raises LorararError if `loras` does not exist.
    """
    list_loras(loras, uploads)
    drawer = Drawer(pipeline)

    async def about(request: Request) -> Response:
        made, side = pipeline.manifest, pipeline.manifest.side * pipeline.manifest.pixels
        choices = list_loras(loras, uploads)
        return JSONResponse(
            {
                "pipeline": f"{made.base}, {made.quantize}, {side} x {side} pixels",
                "method": drawer.method,
                "largest": LARGEST,
                "ranges": RANGES,
                "loras": [_describe(name, choice) for name, choice in choices.items()],
            }
        )

    async def upload(request: Request) -> Response:
        file = await keep_upload(request.path_params["name"], request.stream(), uploads, pipeline)
        return JSONResponse({"name": file.stem}, 201)

    async def draw(request: Request) -> Response:
        try:
            asked = read_request(await request.json())
        except (ValueError, RecursionError) as error:
            raise LorararError(f"this is no JSON ({error}); reload the page") from error
        choices = list_loras(loras, uploads)
        for name in (asked.content, asked.style):
            if name not in choices:
                raise LorararError(f"there is no LoRA '{name:.80}'; reload the page")
        files = choices[asked.content].file, choices[asked.style].file
        return StreamingResponse(_lines(drawer, asked, *files), media_type="application/x-ndjson")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with drawer.thread:
            yield

    app = Starlette(
        routes=[
            *(Route(path, partial(_send, Path(__file__).with_name(PAGE[path]))) for path in PAGE),
            Route("/about", about),
            Route("/loras/{name}", upload, methods=["PUT"]),
            Route("/draw", draw, methods=["POST"], max_body_size=LARGEST_REQUEST),
        ],
        middleware=[Middleware(guard)],
        exception_handlers={
            LorararError: lambda request, error: _refuse(str(error), 400),
            ClientDisconnect: lambda request, error: _refuse("gone", 400),
            HTTPException: lambda request, error: _refuse(error.detail, error.status_code),
            Exception: lambda request, error: _refuse("failed; the terminal says more", 500),
        },
        lifespan=lifespan,
    )
    app.state.drawer = drawer
    return app


async def _send(file: Path, request: Request) -> Response:
    return FileResponse(file, headers=HEADERS)


def _refuse(line: str, status: int) -> Response:
    return JSONResponse({"error": line}, status)


def _describe(name: str, choice: OfferedLora) -> dict[str, Any]:
    about = asdict(choice)
    del about["file"]
    return {"name": name} | about


async def _lines(
    drawer: Drawer, asked: DrawRequest, content: Path, style: Path
) -> AsyncIterator[str]:
    async with aclosing(drawer.draw(asked, content, style)) as events:
        async for event in events:
            yield json.dumps(event) + "\n"

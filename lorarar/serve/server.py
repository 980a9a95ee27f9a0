"""The server: a socket, a folder for uploads, and the app until Ctrl-C."""

import signal
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from lorarar.errors import LorararError
from lorarar.runtime.pipeline import Pipeline
from lorarar.serve.app import make_app
from lorarar.unfinished import temporary_folder


class Server(uvicorn.Server):
    """A server that draws no further once it is asked to stop."""

    def __init__(self, app: Starlette) -> None:
        """Take the app of `make_app`."""
        super().__init__(uvicorn.Config(app, log_level="warning"))
        self.app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the pictures that are being drawn, too."""
        self.app.state.drawer.stopping.set()
        super().handle_exit(sig, frame)


def serve(
    pipeline: Pipeline,
    loras: Path | None,
    *,
    host: str,
    port: int,
    say: Callable[[str], object],
    allowed: Collection[str] = (),
) -> None:
    """Serve the page until Ctrl-C; port 0: any that is free. say: takes lines: the LoRAs, and the
    address; allowed: names of the server's own, see `lorarar.serve.guard`.

    Raises LorararError if the address is taken or `loras` is no folder of LoRAs.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else it would leave the uploads
    with temporary_folder("lorarar-uploads-") as uploads, suppress(KeyboardInterrupt):
        app = make_app(pipeline, loras, uploads, allowed)
        say(app.state.shelf.describe())
        with _listen(host, port) as listening:
            address = f"[{host}]" if ":" in host else host
            say(f"http://{address}:{listening.getsockname()[1]}: open it in a browser; Ctrl-C ends")
            server = Server(app)
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, server.handle_exit)
            server.run([listening])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise LorararError(
            f"{host}, port {port}: cannot be served on ({error.strerror}); try another --port"
        ) from error

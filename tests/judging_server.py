"""An OpenAI-compatible endpoint on this machine that behaves as badly as a test asks for."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Script = Callable[[dict, int], object]  # a request and how often it came before: what is done


def completion(text: str | None, **message: object) -> bytes:
    usage = {"prompt_tokens": 100, "completion_tokens": 2}
    said = {"role": "assistant", "content": text, **message}
    return json.dumps({"choices": [{"message": said}], "usage": usage}).encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.lock = threading.Lock()
        self.came: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.authorised: set[str | None] = set()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        name = sha256(raw).hexdigest()
        with self.server.lock:
            before = self.server.came[name]
            self.server.came[name] += 1
            self.server.authorised.add(self.headers["Authorization"])
        done = self.server.script(json.loads(raw), before)
        if done == "cut":
            self.connection.close()
        elif done == "hang":
            self.server.closing.wait(60)
        elif done == "drip":
            self._drip()
        else:
            status, body, headers = done
            with self.server.lock:
                self.server.answered[name] += status == 200
            self.send_response(status)
            for header, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(header, str(value))
            self.end_headers()
            self.wfile.write(body)

    def _drip(self) -> None:
        """A byte now and then, for ever: no timeout of one read ends it."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.closing.is_set():
            self.wfile.write(b" ")
            time.sleep(0.05)


@contextmanager
def serving(script: Script):
    with Server(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def says(text: str | None, **message: object) -> tuple[int, bytes, dict]:
    return 200, completion(text, **message), {}

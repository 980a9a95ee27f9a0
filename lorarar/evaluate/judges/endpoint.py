"""Any OpenAI-compatible endpoint that looks at pictures: vLLM, llama.cpp, Ollama, LM Studio, ...

Its key comes from the environment: `LORARAR_JUDGE_KEY`, for OpenAI's own address also
`OPENAI_API_KEY`, which is sent nowhere else. It is in no cache, no message and no file.
"""

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit, urlunsplit

from lorarar.errors import LorararError
from lorarar.evaluate.calls import Call, Reply, encoded
from lorarar.evaluate.judges import Ask, JudgeOptions, Unanswered

try:
    import httpx
except ImportError as error:
    raise LorararError(
        "an endpoint as judge needs httpx; run: pip install 'lorarar[evaluate]'"
    ) from error

OPENAI = "https://api.openai.com/v1"
KEY = "LORARAR_JUDGE_KEY"
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds; doubled from attempt to attempt
TRANSIENT = {408, 409, 425, 429}  # and all from 500
HOPELESS = {401, 403, 404}  # whatever is asked
REPLACED = {"max_tokens": "max_completion_tokens", "temperature": None}  # where refused
MOST_BYTES = 1 << 20  # of an answer


def name(options: JudgeOptions) -> str:
    """Name the model and where it is served."""
    return f"openai:{options.model} at {_without_secrets(_address(options))}"


def _address(options: JudgeOptions) -> str:
    return (options.base_url or OPENAI).rstrip("/")


def _without_secrets(address: str) -> str:
    """Leave out a user's name, a password and a query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@asynccontextmanager
async def opened(options: JudgeOptions) -> AsyncIterator[Ask]:
    """Open connections, as many as calls may be under way."""
    address = _address(options)
    key = os.environ.get(KEY, "").strip()
    if not key and address == OPENAI:
        key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == OPENAI:
        raise LorararError(f"{address} needs a key; put it into the environment as {KEY}")
    try:
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=options.timeout,
            limits=httpx.Limits(max_connections=options.at_once),
        )
        url = httpx.URL(f"{address}/chat/completions")
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise LorararError(
            f"--base-url {_without_secrets(address)} or the key in {KEY} is not valid; check both"
        ) from error
    async with client:
        yield Endpoint(client, url, options, key).ask


@dataclass(frozen=True)
class Endpoint:
    """An open endpoint. refused: the parameters that its model does not take, as found out."""

    client: httpx.AsyncClient
    url: httpx.URL
    options: JudgeOptions
    key: str
    refused: set[str] = field(default_factory=set)

    async def ask(self, call: Call) -> Reply:
        """Ask until there is an answer, with pauses that double or are as long as asked for."""
        pause, why = 0.0, ""
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(pause)
            pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
            try:
                status, headers, text = await self._post(self._body(call))
            except (httpx.RequestError, TimeoutError) as error:
                why = type(error).__name__
                continue
            if status in HOPELESS:
                raise LorararError(
                    f"{_without_secrets(str(self.url))}: HTTP {status} ({self._quoted(text)}); "
                    f"check --judge, --base-url and the key in {KEY}"
                )
            why = f"HTTP {status}: {self._quoted(text)}"
            if status in TRANSIENT or status >= 500:
                pause = max(pause, min(_asked_for(headers.get("retry-after", "")), LONGEST_PAUSE))
                continue
            if status == 400 and (parameter := _refused(text)) in REPLACED:
                self.refused.add(parameter)
                continue
            if status != 200:
                raise Unanswered(why)
            reply = _reply(text)
            if reply is not None:
                return reply
        raise Unanswered(f"{ATTEMPTS} attempts; at last {why}")

    async def _post(self, body: str) -> tuple[int, httpx.Headers, str]:
        """Post within the timeout in all: httpx's own is for each piece of an answer."""
        headers, pieces, size = {"Content-Type": "application/json"}, [], 0
        async with (
            asyncio.timeout(self.options.timeout),
            self.client.stream("POST", self.url, content=body, headers=headers) as response,
        ):
            async for piece in response.aiter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    break
        text = b"".join(pieces)[:MOST_BYTES].decode(errors="replace")
        return response.status_code, response.headers, text

    def _body(self, call: Call) -> str:
        pictures = [
            f"data:image/png;base64,{b64encode(encoded(path, call.side)).decode()}"
            for path in call.pictures
        ]
        content = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
        decoding = {"temperature": 0, "max_tokens": call.tokens}
        taken = {REPLACED[k] if k in self.refused else k: v for k, v in decoding.items()}
        taken.pop(None, None)
        message = {"role": "user", "content": [*content, {"type": "text", "text": call.text}]}
        return json.dumps({"model": self.options.model, "messages": [message], **taken})

    def _quoted(self, text: str) -> str:
        """Shorten what a server says; some repeat the key."""
        return " ".join((text.replace(self.key, "***") if self.key else text).split())[:200]


def _refused(text: str) -> str:
    """Name the parameter that the model does not take, if that is what the server says."""
    try:
        error = json.loads(text)["error"]
        return str(error["param"]) if str(error["code"]).startswith("unsupported") else ""
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _reply(text: str) -> Reply | None:
    """Return what a completion says; a refusal is an answer, too. None if it is malformed."""
    try:
        completion = json.loads(text)
        message = completion["choices"][0]["message"]
        said = message.get("content") or message.get("refusal") or ""
        usage = completion.get("usage") or {}
        tokens = [usage.get(f"{kind}_tokens") or 0 for kind in ("prompt", "completion")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(said, str) or not all(isinstance(count, int) for count in tokens):
        return None
    return Reply(said, input_tokens=tokens[0], output_tokens=tokens[1])


def _asked_for(retry_after: str) -> float:
    """Return the seconds that a Retry-After header asks for: a number or a date."""
    try:
        return float(retry_after)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time()
    except (ValueError, TypeError):
        return 0.0

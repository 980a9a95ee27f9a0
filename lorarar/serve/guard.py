"""Who may talk to a local server: the page it served, not other web sites open in the browser."""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def guard(app: ASGIApp, allowed: Collection[str] = ()) -> ASGIApp:
    """Refuse requests that reached `app` by another site's name, or that another site's page sent.

    A name can be rebound to this machine by whoever owns it, an address cannot; and browsers tell
    the origin of whatever changes something. allowed: names of one's own, as of a proxy, which may
    speak TLS and may pass on its own name or this server's.
    """
    allowed = {name.lower() for name in allowed}

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        problem = _problem(Headers(scope=scope), allowed) if scope["type"] == "http" else None
        respond = JSONResponse({"error": problem}, 403) if problem else app
        await respond(scope, receive, send)

    return guarded


def _problem(headers: Headers, allowed: Collection[str]) -> str | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    name = _name(host)
    if not (name in allowed or name == "localhost" or _is_address(name)):
        return (
            f"host '{host:.80}' is a name; open the page by address, as http://127.0.0.1:8000, or "
            f"start with: lorarar serve --allow-host {name or 'NAME':.80}"
        )
    if origin is None or origin in (f"http://{host}", f"https://{host}"):
        return None
    scheme, _, rest = origin.partition("://")
    if scheme in ("http", "https") and _name(rest) in allowed:
        return None
    return (
        f"a page of '{origin:.80}' may not use this server; open http://{host} itself, or start "
        "with: lorarar serve --allow-host NAME"
    )


def _name(host: str) -> str:
    """What is before the port, in small letters; "" for what is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False

"""Who may talk to a local server: the page it served, not other web sites open in the browser."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def guard(app: ASGIApp) -> ASGIApp:
    """Refuse requests that reached `app` by another site's name, or that another site's page sent.

    A name can be rebound to this machine by whoever owns it, an address cannot; and browsers tell
    the origin of whatever changes something.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        problem = _problem(Headers(scope=scope)) if scope["type"] == "http" else None
        respond = JSONResponse({"error": problem}, 403) if problem else app
        await respond(scope, receive, send)

    return guarded


def _problem(headers: Headers) -> str | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    if not _is_address(host):
        return f"host '{host}' is a name; open the page by address, as http://127.0.0.1:8000"
    if origin not in (None, f"http://{host}"):
        return f"a page of '{origin}' may not use this server; open http://{host} itself"
    return None


def _is_address(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ip_address(name))
    except ValueError:
        return False

"""Security headers of every answer, and the requests that are answered at all."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# For answers that are not pages: if a browser shows one as a page, it may do nothing.
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """Answers only requests that were meant for this server, and none that a page of another site makes a browser send.

    A request must address the server by an IP address, ``localhost`` or one of ``names``. Another site whose name was changed
    to point here ("DNS rebinding") would send its own name. Browsers send the origin of a request (``Sec-Fetch-Site``,
    ``Origin``); from other origins only the page itself may be opened.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {"Content-Security-Policy": _NOTHING, **_HEADERS}.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host", "")
        app = self._app
        if not self._is_ours(host):
            app = JSONResponse({"error": f"this server does not accept the host name {host!r}; see --allow-host"}, 421)
        elif _is_foreign(headers, host) and (scope["method"], scope["path"]) != ("GET", "/"):
            app = JSONResponse({"error": "requests from other sites' pages are refused"}, 403)
        await app(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_foreign(headers: Headers, host: str) -> bool:
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:  # It is not an address.
        return True

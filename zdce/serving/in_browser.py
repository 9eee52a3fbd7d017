"""The page that enhances in the browser alone (docs/browser.md), if web/build has made it."""

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

# Output of web/build. Wheels contain it if it existed when they were built.
FOLDER = Path(__file__).parent / "browser"

# Replaces the comment <!-- browser --> of the server's own page.
LINK = '<p class="soft"><a href="/browser/">Enhance one in this browser alone</a>: it is not sent to the server.</p>'

# The page has a policy of its own; this one applies to its workers, too.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; img-src blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_built() -> bool:
    """Whether web/build has been run, here or where the wheel was made."""
    return (FOLDER / "index.html").is_file()


class BrowserFiles(StaticFiles):
    """The page's files, isolated from other sites so that threads may share memory."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
        return response

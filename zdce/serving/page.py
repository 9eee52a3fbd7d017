"""Pages: one HTML document with its style and script inside, and a policy that allows a browser to run only these."""

import base64
import hashlib
from importlib import resources

# The files of each page in the folder ``web``.
_FILES = {"page": ("page.html", "style.css", "script.js"), "live": ("live.html", "live.css", "live.js")}


def page(name: str = "page", images: str = "blob: data:") -> tuple[str, str]:
    """The document and its Content-Security-Policy.

    Args:
        name: name of the page, ``"page"`` or ``"live"``.
        images: sources of images that the policy allows.
    """
    html, style, script = (resources.files("zdce.serving").joinpath("web", file).read_text("utf-8") for file in _FILES[name])
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": images,
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    document = html.replace("/* style.css */", style).replace("/* script.js */", script)
    return document, "; ".join(f"{directive} {value}" for directive, value in policy.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""The page: one HTML document with its style and script inside, and the policy that lets a browser run only these."""

import base64
import hashlib
from importlib import resources


def page() -> tuple[str, str]:
    """The document and its Content-Security-Policy."""
    html, style, script = (
        resources.files("zdce.serving").joinpath("web", name).read_text("utf-8")
        for name in ("page.html", "style.css", "script.js")
    )
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    document = html.replace("/* style.css */", style).replace("/* script.js */", script)
    return document, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""The page at /: one file that speaks the public API, with a policy that lets it run its own script alone."""

import base64
import functools
import hashlib
import re
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

__all__ = ["ROUTES", "content_security_policy"]


@functools.cache
def read_page() -> tuple[str, dict[str, str]]:
    """The page and its headers."""
    html = (files("dalle3_jax") / "serving" / "web_page.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": content_security_policy(html),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return html, headers


def content_security_policy(html: str) -> str:
    """The policy of a page with one script and one style sheet within: just these, this server, and images of its own.

    Both are told by their hashes, so that no markup that gets into the page, from whatever prompt, can run or load.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {hash_source(html, 'script')}",
            f"style-src {hash_source(html, 'style')}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def hash_source(html: str, tag: str) -> str:
    """The text within the page's only element of this tag, as a policy names it."""
    [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def get_page(request: Request) -> Response:
    """GET /: the page."""
    html, headers = read_page()
    return HTMLResponse(html, headers=headers)


ROUTES = [Route("/", get_page)]

"""The page's file and its headers; tests/browser has what people do with it."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from starlette.testclient import TestClient

from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.web_page import content_security_policy

HTML = (files("dalle3_jax") / "serving" / "web_page.html").read_text(encoding="utf-8")


def elements() -> list[tuple[str, dict[str, str | None]]]:
    """Every tag of the page with its attributes."""
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(HTML)
    return tags


def test_the_page_needs_no_key_and_has_a_policy(service):
    with TestClient(build_app(service, keys=(b"secret",))) as client:
        answer = client.get("/")
        assert client.get("/v1/models").status_code == 401
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text == HTML
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_the_policy_lets_no_other_script_run():
    other = HTML.replace('"use strict";', '"use strict"; ')
    assert content_security_policy(other) != content_security_policy(HTML)
    with pytest.raises(ValueError, match="values to unpack"):
        content_security_policy(HTML.replace("</body>", "<script>1</script></body>"))


def test_the_page_is_one_file_of_moderate_size():
    assert len(HTML.encode()) < 100_000
    loading = [
        attributes[name]
        for tag, attributes in elements()
        for name in ("src", "href", "action", "srcset")
        if name in attributes and not (attributes[name] or "").startswith(("#", "data:"))
    ]
    assert loading == []
    assert "@import" not in HTML


def test_the_page_has_no_handlers_in_its_markup():
    names = {name for _, attributes in elements() for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", HTML)

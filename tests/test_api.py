"""docs/api.md says what the sources say, and what it names can be imported."""

import pytest

from scripts.make_api import PAGE, SECTIONS, SHOWN_AS, public_names, read_module, render_module, render_page


def test_the_page_is_current():
    assert PAGE.read_text() == render_page(), "run python -m scripts.make_api"


def test_every_name_has_a_line():
    page = render_page().split("#### ")[1:]
    assert [entry.splitlines()[0] for entry in page if not entry.splitlines()[2].strip()] == []


@pytest.mark.parametrize(("module", "package"), SHOWN_AS.items())
def test_a_package_hands_out_what_its_heading_names(module, package):
    names = next(names[module] for names in SECTIONS.values() if module in names)
    assert set(names) <= set(public_names(read_module(f"{package}.__init__")))


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(ValueError, match="no public Nothing"):
        list(render_module("diffusion.guidance", ("Nothing",)))

"""The page as people use it: what they click and type, and the images that come of it."""

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

DONE = '.job[data-status="completed"]'


def generate(page: "Page", prompt: str = "a panda", count: int = 1, **fields: str) -> None:
    """Fills the form in and sends it."""
    page.fill("#prompt", prompt)
    page.click(f'#counts label:has-text("{count}")')
    for name, value in fields.items():
        page.eval_on_selector("#more", "more => more.open = true")
        page.fill(f'[name="{name}"]', value)
    page.click("#generate")


def wait_for_jobs(page: "Page", count: int) -> "Locator":
    """The newest job, when so many are done and shown."""
    page.wait_for_function(
        "([selector, count]) => { const jobs = document.querySelectorAll(selector);"
        "return jobs.length === count && [...jobs].every((job) => [...job.querySelectorAll('.image:not([hidden])')]"
        ".every((image) => !image.disabled)); }",
        arg=[DONE, count],
    )
    return page.locator(".job").first


def kept_jobs(page: "Page") -> list[dict[str, Any]]:
    """The jobs that the browser keeps, the newest first."""
    entries = page.evaluate("Object.entries(localStorage).filter(([key]) => key.startsWith('dalle3_jax/job/'))")
    return sorted((json.loads(value) for _, value in entries), key=lambda job: -job["created"])


def shown_pixels(image: "Locator") -> np.ndarray:
    """The pixels of the file that an image on the page shows."""
    width, height, values = image.locator("img").evaluate(
        "(image) => { const canvas = document.createElement('canvas');"
        "const [width, height] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];"
        "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        "return [width, height, [...context.getImageData(0, 0, width, height).data]]; }"
    )
    return np.array(values, np.uint8).reshape(height, width, 4)[:, :, :3]


def open_image(page: "Page", action: str) -> None:
    """Opens the newest image and presses a button of its dialog."""
    page.locator(".image").first.click()
    page.click(f'#viewer [data-action="{action}"]')


def drop(page: "Page", content: bytes, name: str = "dropped.png") -> None:
    """Drops a PNG on the page."""
    transfer = page.evaluate_handle(
        "([text, name]) => { const transfer = new DataTransfer(); const bytes = Uint8Array.from(atob(text),"
        "(letter) => letter.charCodeAt(0)); transfer.items.add(new File([bytes], name, {type: 'image/png'}));"
        "return transfer; }",
        [base64.b64encode(content).decode(), name],
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def file_of(service, page: "Page") -> bytes:
    """The newest image's file, as the server has it."""
    return service.files.get(kept_jobs(page)[0]["data"][0]["file"]).content


def test_previews_turn_into_images(page, pace):
    pace.close()
    generate(page, count=2)
    page.wait_for_selector("img.preview")
    assert page.locator(".job progress").is_visible()
    assert page.locator(".job .image:disabled").count() == 2
    pace.open()
    job = wait_for_jobs(page, 1)
    assert job.locator("img.preview").count() == 0
    first, second = (shown_pixels(job.locator(".image").nth(index)) for index in (0, 1))
    assert first.shape == (16, 16, 3)
    assert not np.array_equal(first, second)
    assert not job.locator("progress").is_visible()


def test_the_shape_that_is_chosen_is_made(page):
    page.click('#sizes label:has-text("32\u00d716")')
    generate(page)
    assert shown_pixels(wait_for_jobs(page, 1).locator(".image")).shape == (16, 32, 3)


def test_a_job_is_stopped(page, service, pace):
    pace.close()
    generate(page, count=2)
    page.wait_for_selector("img.preview")
    page.click('[data-action="stop"]')
    page.wait_for_selector('.job[data-status="cancelled"]')
    assert page.locator(".job .state").inner_text() == "Stopped"
    assert service.jobs.get(kept_jobs(page)[0]["id"]).job.status == "cancelled"


def test_a_job_is_told_its_place_in_the_queue(page, pace):
    pace.close()
    generate(page, count=2)
    page.wait_for_selector("img.preview")
    for _ in range(2):
        page.click("#generate")
    page.wait_for_function("() => document.querySelector('.job .state').textContent.startsWith('Waiting: 2 before')")
    pace.open()
    wait_for_jobs(page, 3)


def test_a_reload_in_the_middle_loses_nothing(page, service, pace):
    """Nor does another after the server has forgotten the files."""
    pace.close()
    generate(page, "a panda in the middle", count=2)
    page.wait_for_selector("img.preview")
    page.reload()
    page.wait_for_selector("img.preview")
    assert page.locator(".job h3").inner_text() == "a panda in the middle"
    assert page.input_value("#prompt") == "a panda in the middle"
    pace.open()
    job = wait_for_jobs(page, 1)
    before = [shown_pixels(job.locator(".image").nth(index)) for index in (0, 1)]
    for datum in kept_jobs(page)[0]["data"]:
        service.files.remove(datum["file"])
    page.reload()
    job = wait_for_jobs(page, 1)
    assert all(
        np.array_equal(shown_pixels(job.locator(".image").nth(index)), pixels) for index, pixels in enumerate(before)
    )


def test_a_job_that_the_server_forgot_is_told_so(page, service, pace):
    pace.close()
    generate(page)
    page.wait_for_selector("img.preview")
    service.jobs.remove(kept_jobs(page)[0]["id"])
    page.reload()
    page.wait_for_selector('.job[data-status="lost"]')
    assert "does not know it" in page.locator(".job .state").inner_text()


def test_damaged_entries_of_the_browser_are_passed_over(page):
    for key, text in (("form", "["), ("job/x", "{"), ("job/y", "1")):
        page.evaluate("([key, text]) => localStorage.setItem(`dalle3_jax/${key}`, text)", [key, text])
    page.reload()
    page.wait_for_selector("#sizes input")
    generate(page)
    wait_for_jobs(page, 1)


def test_the_same_again_is_the_same_bit_for_bit(page):
    generate(page, count=2, negative_prompt="a dog", steps="3", guidance_scale="1.5")
    image = shown_pixels(wait_for_jobs(page, 1).locator(".image").first)
    open_image(page, "again")
    assert np.array_equal(shown_pixels(wait_for_jobs(page, 2).locator(".image")), image)
    page.locator('[data-action="again-all"]').last.click()  # of the whole set
    assert np.array_equal(shown_pixels(wait_for_jobs(page, 3).locator(".image").first), image)
    seeds = [[datum["seed"] for datum in job["data"]] for job in kept_jobs(page)]
    assert seeds[0] == seeds[2] == [seeds[0][0], seeds[0][0] + 1]
    page.click("#generate")
    assert not np.array_equal(shown_pixels(wait_for_jobs(page, 4).locator(".image").first), image)


def test_remix_fills_the_form_in_with_another_seed(page):
    generate(page, "a panda", seed="5", steps="3", negative_prompt="a dog")
    wait_for_jobs(page, 1)
    page.click("#reset")
    page.fill("#prompt", "else")
    open_image(page, "remix")
    values = [page.input_value(f'[name="{name}"]') for name in ("prompt", "negative_prompt", "steps", "seed")]
    assert values == ["a panda", "a dog", "3", ""]


def test_variations_begin_with_the_image(page):
    page.click('#sizes label:has-text("32\u00d716")')
    generate(page)
    image = shown_pixels(wait_for_jobs(page, 1).locator(".image"))
    open_image(page, "strong")
    varied = shown_pixels(wait_for_jobs(page, 2).locator(".image"))
    assert varied.shape == image.shape
    assert not np.array_equal(varied, image)
    assert kept_jobs(page)[0]["data"][0]["metadata"]["strength"] == 0.75
    open_image(page, "again")  # the image that it was made from is kept
    assert np.array_equal(shown_pixels(wait_for_jobs(page, 3).locator(".image")), varied)


def test_a_brush_changes_what_it_paints_alone(page):
    generate(page)
    image = shown_pixels(wait_for_jobs(page, 1).locator(".image"))
    open_image(page, "edit")
    box = page.locator("#mask").bounding_box()
    page.fill("#brush", "30")
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.9 * box["height"], steps=4)
    page.mouse.up()
    page.fill("#edit-prompt", "a dog")
    page.click("#edit-go")
    edited = shown_pixels(wait_for_jobs(page, 2).locator(".image"))
    assert np.array_equal(edited[:, 5:], image[:, 5:])
    assert not np.array_equal(edited[:, :3], image[:, :3])


def test_a_brush_is_moved_by_keys(page):
    generate(page)
    wait_for_jobs(page, 1)
    open_image(page, "edit")
    page.click("#edit-go")
    assert "Paint over" in page.locator(".toast").inner_text()
    page.focus("#mask")
    for key in ("ArrowLeft", "ArrowUp", " "):
        page.keyboard.press(key)
    page.click("#edit-go")
    wait_for_jobs(page, 2)
    assert kept_jobs(page)[0]["data"][0]["metadata"]["mask"]


def test_an_image_grows_beyond_its_edge(page):
    generate(page)
    image = shown_pixels(wait_for_jobs(page, 1).locator(".image"))
    open_image(page, "edit")
    page.click('#modes label:has-text("Around it")')
    page.click('#extents label:has-text("All round")')
    page.click("#edit-go")
    grown = shown_pixels(wait_for_jobs(page, 2).locator(".image"))
    assert grown.shape == (32, 32, 3)
    assert np.array_equal(grown[8:24, 8:24], image)


def test_a_dropped_png_brings_its_settings_back(page, service):
    generate(page, "a panda", seed="7", steps="3", negative_prompt="a dog", guidance_scale="1.5")
    image = shown_pixels(wait_for_jobs(page, 1).locator(".image"))
    content = file_of(service, page)
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#sizes input")
    assert page.input_value("#prompt") == ""
    drop(page, content)
    page.wait_for_selector(".toast")
    names = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale")
    assert [page.input_value(f'[name="{name}"]') for name in names] == ["a panda", "a dog", "7", "3", "1.5"]
    page.click("#generate")
    assert np.array_equal(shown_pixels(wait_for_jobs(page, 1).locator(".image")), image)


def test_an_image_of_elsewhere_is_opened_to_be_edited(page):
    content = io.BytesIO()
    Image.new("RGB", (24, 16), "red").save(content, "PNG")
    drop(page, content.getvalue())
    page.wait_for_selector("#editor[open]")
    assert page.input_value("#edit-prompt") == ""


def test_wording_that_is_changed_is_drawn_as_it_is(page, service, monkeypatch):
    monkeypatch.setattr("dalle3_jax.serving.generation.revise_prompt", lambda prompt, how, *rest: revise(prompt, how))
    generate(page, "a panda")
    wait_for_jobs(page, 1)
    assert page.input_value("#revised") == "a panda, at length"
    page.fill("#revised", "a panda, in short")
    page.click("#generate")
    wait_for_jobs(page, 2)
    assert [job["revised"] for job in kept_jobs(page)] == ["a panda, in short", "a panda, at length"]


def revise(prompt: str, how: str) -> str:
    return prompt if how == "none" and "short" in prompt else f"{prompt}, at length"


def test_a_server_that_asks_for_a_key_gets_it(new_page, locked_server):
    new_page.goto(locked_server[0])
    for key in ("wrong", KEY):
        new_page.wait_for_selector("#key-dialog[open]")
        new_page.fill("#key-field", key)
        new_page.keyboard.press("Enter")
    new_page.wait_for_selector("#sizes input")
    generate(new_page)
    wait_for_jobs(new_page, 1)


def test_keys_do_what_the_pointer_does(page):
    page.keyboard.press("/")
    page.keyboard.type("a panda")
    page.click('#counts label:has-text("2")')
    page.keyboard.press("Control+Enter")
    wait_for_jobs(page, 1)
    page.locator(".image").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('viewer-title').textContent === 'Image 2 of 2'")
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_a_mistake_is_told_in_the_servers_words(page):
    generate(page, steps="2000")
    page.wait_for_selector(".toast")
    assert "steps" in page.locator(".toast").inner_text()
    assert page.locator(".job").count() == 0


def test_a_prompt_is_text_and_never_markup(page):
    generate(page, "<img src=x onerror=alert(1)><b>bold</b>")
    job = wait_for_jobs(page, 1)
    assert job.locator("h3").inner_text() == "<img src=x onerror=alert(1)><b>bold</b>"
    assert job.locator("h3 *").count() == 0


def test_a_set_is_deleted_here_and_on_the_server(page, service):
    generate(page)
    wait_for_jobs(page, 1)
    [kept] = kept_jobs(page)
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.click('[data-action="remove"]')
    page.wait_for_selector("#empty")
    assert kept_jobs(page) == []
    assert service.jobs.get(kept["id"]) is None
    assert service.files.get(kept["data"][0]["file"]) is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(page, scheme):
    """Labels, contrast and roles by axe; and nothing is wider than the narrowest window."""
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    axe, reports = Axe(), []

    def check() -> None:
        result = axe.run(page)
        reports.append(result.generate_report() if result.violations_count else "")
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.set_viewport_size({"width": 1280, "height": 800})

    check()
    generate(page, "a panda", 2, seed="5")
    wait_for_jobs(page, 1)
    check()
    page.locator(".image").first.click()
    check()
    page.click('#viewer [data-action="edit"]')
    for mode in ("A part", "Around it", "All of it"):
        page.click(f'#modes label:has-text("{mode}")')
        check()
    assert [report for report in reports if report] == []


def test_upscale_is_there_where_the_server_can(page, server):
    generate(page, seed="5")
    wait_for_jobs(page, 1)
    page.locator(".image").first.click()
    assert not page.locator('[data-action="upscale"]').is_visible()

    def answer_with_upscaler(route) -> None:
        answer = route.fetch()
        models = answer.json()
        models["data"][0]["upscale"] = [2, 4]
        route.fulfill(response=answer, json=models)

    page.route("**/v1/models", answer_with_upscaler)
    page.goto(server[0])
    wait_for_jobs(page, 1)
    page.wait_for_selector("#sizes input")
    with page.expect_request("**/v1/images/jobs") as sent:
        open_image(page, "upscale")
    body = sent.value.post_data_json
    assert (body["upscale"], body["seed"], body["prompt"]) == (4, 5, "a panda")

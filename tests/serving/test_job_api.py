"""Jobs: who knows the id sees how far it is, finds the images again, and may stop it."""

import base64

import pytest
from starlette.testclient import TestClient

from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.service import Limits, Service
from tests.serving.conftest import until
from tests.serving.test_openai_api import error_of, events

URL = "/v1/images/jobs"
BODY = {"prompt": "a panda", "n": 2, "seed": 5}


def test_a_job_outlives_the_connection_and_its_images_are_found_again(client):
    answer = client.post(URL, json={**BODY, "partial_images": 1})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["status"], job["n"], job["prompt"]) == ("queued", 2, "a panda")
    assert len(bytes.fromhex(job["id"])) == 16
    told = events(client.get(f"{URL}/{job['id']}/events").text)
    assert told[0]["type"] == "image_job.progress"
    assert told[-1]["type"] == "image_job.completed"
    done = client.get(f"{URL}/{job['id']}").json()
    assert (done["status"], done["progress"], done["eta_seconds"]) == ("completed", 1.0, 0.0)
    assert [datum["image_index"] for datum in done["data"]] == [0, 1]
    direct = client.post("/v1/images/generations", json=BODY).json()["data"]
    for datum, other in zip(done["data"], direct, strict=True):
        assert client.get(datum["url"]).content == base64.b64decode(other["b64_json"])
    assert told[-1]["data"] == done["data"]


def test_images_of_jobs_that_nobody_asks_for_are_the_stores(client):
    service = client.app.state.service
    job = client.post(URL, json=BODY).json()
    events(client.get(f"{URL}/{job['id']}/events").text)
    images = service.jobs.get(job["id"]).job.images
    assert all(image.content is None and service.files.get(image.file) for image in images)


def test_who_comes_late_hears_the_images_and_the_end(client):
    job = client.post(URL, json=BODY).json()
    first = events(client.get(f"{URL}/{job['id']}/events").text)
    late = events(client.get(f"{URL}/{job['id']}/events").text)
    assert [event["type"] for event in late] == ["image_job.progress", *["image_job.image"] * 2, "image_job.completed"]
    assert first[-1] == late[-1]


def test_a_job_that_has_ended_is_deleted_with_its_files(client):
    job = client.post(URL, json=BODY).json()
    [*_, last] = events(client.get(f"{URL}/{job['id']}/events").text)
    assert client.delete(f"{URL}/{job['id']}").status_code == 200
    assert error_of(client.get(f"{URL}/{job['id']}"))["code"] == "job_not_found"
    assert client.get(last["data"][0]["url"]).status_code == 404


def test_a_job_is_stopped(client, gate):
    job = client.post(URL, json=BODY).json()
    gate.let_through(1)
    stopped = client.delete(f"{URL}/{job['id']}").json()
    assert (stopped["status"], stopped["error"]["code"]) == ("cancelled", "cancelled")
    gate.let_through()
    assert events(client.get(f"{URL}/{job['id']}/events").text)[-1]["type"] == "image_job.cancelled"


@pytest.fixture
def now() -> list[float]:
    """The time by which jobs and files of `short_service` expire."""
    return [0.0]


@pytest.fixture
def short_service(pipeline, now, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service that keeps jobs and files for 10 seconds, and makes one image at a time."""
    service = Service(Engine(pipeline, batch_size=1), limits=Limits(keep_seconds=10))
    for store in (service.jobs, service.files):
        monkeypatch.setattr(store, "_clock", lambda: now[0])
    return service


def test_a_job_expires_after_its_end_and_not_while_it_waits_or_runs(short_service, gate, now):
    with TestClient(build_app(short_service), raise_server_exceptions=False) as client:
        runs, waits = (f"{URL}/{client.post(URL, json={'prompt': 'a panda'}).json()['id']}" for _ in range(2))
        until(lambda: len(gate.batches) == 1)
        now[0] = 100.0
        assert [client.get(url).json().get("status") for url in (runs, waits)] == ["running", "queued"]
        gate.let_through()
        for url in (runs, waits):
            events(client.get(f"{url}/events").text)
        now[0] = 109.0
        assert [client.get(url).json()["status"] for url in (runs, waits)] == ["completed"] * 2
        now[0] = 110.0
        assert [client.get(url).status_code for url in (runs, waits)] == [404] * 2


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_files_of_a_job_expire_with_it_however_early_they_were_made(short_service, gate, now, end):
    with TestClient(build_app(short_service), raise_server_exceptions=False) as client:
        url = f"{URL}/{client.post(URL, json={**BODY, 'steps': 2}).json()['id']}"
        gate.let_through(2)
        until(lambda: len(client.get(url).json()["data"]) == 1)
        now[0] = 100.0
        [early] = client.get(url).json()["data"]
        assert client.get(early["url"]).status_code == 200
        if end == "cancelled":
            client.delete(url)
        gate.let_through()
        [*_, last] = events(client.get(f"{url}/events").text)
        assert last["status"] == end
        now[0] = 109.0
        urls = [datum["url"] for datum in client.get(url).json()["data"]]
        assert urls[0] == early["url"]
        assert [client.get(file).status_code for file in urls] == [200] * (2 if end == "completed" else 1)
        now[0] = 110.0
        assert [client.get(file).status_code for file in urls] == [404] * len(urls)
        assert client.get(url).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_job_that_is_not_there(client, method):
    assert error_of(client.request(method, f"{URL}/{'0' * 32}"))["code"] == "job_not_found"

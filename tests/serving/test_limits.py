"""Keys, origins, hosts, and bounds of bodies, before any route sees a request."""

import asyncio
import base64

import pytest
from starlette.testclient import TestClient

from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.limits import own_hosts, read_keys
from dalle3_jax.serving.service import Limits, Service
from tests.serving.test_openai_api import error_of

URL = "/v1/images/generations"


def client_of(pipeline, limits: Limits | None = None, strict: bool = False, **options) -> TestClient:
    """A client of a server whose engine does not run."""
    service = Service(Engine(pipeline), name="tiny", limits=limits or Limits(), strict_models=strict)
    app = build_app(service, **options)
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    "header",
    ["Bearer second", "bearer second", f"Basic {base64.b64encode(b'me:second').decode()}"],
)
def test_a_key_opens_every_route(pipeline, header):
    client = client_of(pipeline, keys=(b"first", b"second"))
    assert client.get("/v1/models", headers={"Authorization": header}).status_code == 200


def test_a_key_is_compared_byte_for_byte_with_what_was_sent(pipeline):
    """Beyond ASCII too, where a program that builds the application has such keys."""
    client = client_of(pipeline, keys=("clé à".encode(),))
    for header, status in (("Bearer clé à", 200), ("Bearer cle a", 401)):
        assert client.get("/v1/models", headers={"Authorization": header.encode()}).status_code == status


WRONG = (None, "", "Bearer", "Bearer secon", "Bearer second2", "Basic %%", "Basic", "\xff")
BEYOND_ASCII = ("Bearer s\xe9cond", "Basic \xff")


@pytest.mark.parametrize("header", WRONG + BEYOND_ASCII)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/images/jobs/1", "/nope", "/files"])
def test_without_the_key_everything_but_health_and_files_is_closed(pipeline, header, path):
    client = client_of(pipeline, keys=(b"first", b"second"))
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = client.get(path, headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
    assert "second" not in answer.text
    assert client.get("/healthz").status_code == 200
    assert error_of(client.get("/files/x"))["code"] == "file_not_found"


def test_keys_of_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\n one \n\n  # another\ntwo\n")
    assert read_keys(["three"], str(file)) == (b"three", b"one", b"two")
    file.write_text("# none\n")
    with pytest.raises(ValueError, match="holds no key"):
        read_keys([], str(file))
    with pytest.raises(ValueError, match="empty"):
        read_keys([""], None)


@pytest.mark.parametrize("content", ["clé".encode(), "clé".encode("latin-1"), "key".encode("utf-16"), b"a\0key"])
def test_keys_that_not_every_client_can_send_are_refused_at_the_start(tmp_path, content):
    file = tmp_path / "keys"
    file.write_bytes(b"one\n" + content)
    with pytest.raises(ValueError, match="keys has characters that not every client can send"):
        read_keys([], str(file))
    with pytest.raises(ValueError, match="--api-key has characters"):
        read_keys(["clé"], None)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, "127.0.0.1:8000", 400),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 400),
        ("http://localhost", "localhost", 400),
        ("https://evil.example", "127.0.0.1:8000", 403),
        ("null", "127.0.0.1:8000", 403),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", 403),
        ("http://evil.example", "evil.example", 403),
        (None, "evil.example", 403),
        (None, "[::1]:8000", 400),
        (None, "[", 403),
    ],
)
def test_pages_and_names_of_elsewhere_are_refused_on_the_loopback(pipeline, origin, host, status):
    client = client_of(pipeline, hosts=own_hosts("127.0.0.1", ""))
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = client.post(URL, json={}, headers=headers)
    assert answer.status_code == status
    error_of(answer)


def test_the_public_name_is_one_of_ours_and_elsewhere_any_is():
    assert "images.example.org" in own_hosts("127.0.0.1", "https://images.example.org/x")
    assert own_hosts("0.0.0.0", "") is None


def test_cors_is_off_unless_asked_for(pipeline):
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client_of(pipeline).options(URL, headers=headers).headers
    client = client_of(pipeline, origins=("https://a.example",), keys=(b"k",))
    assert client.options(URL, headers=headers).headers["access-control-allow-origin"] == "https://a.example"
    answer = client.get("/v1/models", headers=headers | {"Authorization": "Bearer k"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    other = client.get("/v1/models", headers={"Origin": "https://b.example", "Authorization": "Bearer k"})
    assert other.status_code == 403


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(pipeline):
    client = client_of(pipeline, Limits(body_bytes=1000))
    assert client.post(URL, content=b" " * 1000).status_code == 400
    said = client.post(URL, content=b" " * 1001)
    unsaid = client.post(URL, content=iter([b" " * 400] * 5))
    for answer in (said, unsaid):
        assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


def test_a_prompt_of_megabytes_is_refused(pipeline):
    answer = client_of(pipeline).post(URL, json={"prompt": "x" * 2**20})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


def test_the_pages_of_the_public_url_are_ours(pipeline):
    app = build_app(Service(Engine(pipeline), public_url="https://a.example/images"))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/v1/models", headers={"Origin": "https://a.example"}).status_code == 200
    assert client.get("/v1/models", headers={"Origin": "https://b.example"}).status_code == 403


def test_a_body_that_does_not_come_ends(pipeline):
    app = build_app(Service(Engine(pipeline), limits=Limits(body_seconds=0.05)))
    sent = []

    async def receive():
        await asyncio.sleep(20)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b""}
    scope |= {"headers": [(b"host", b"x"), (b"content-length", b"9")], "http_version": "1.1", "scheme": "http"}
    asyncio.run(app(scope | {"server": ("x", 80), "client": ("y", 1), "root_path": ""}, receive, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("logs_prompts", [False, True])
def test_the_log_has_prompts_where_asked_for_and_keys_never(pipeline, caplog, logs_prompts):
    caplog.set_level("INFO")
    app = build_app(Service(Engine(pipeline), logs_prompts=logs_prompts), keys=(b"opensesame",))
    client = TestClient(app, raise_server_exceptions=False)
    for key, status in (("opensesame", 202), ("wrongsesame", 401)):
        answer = client.post(
            "/v1/images/jobs", json={"prompt": "a secret panda"}, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code == status
    assert "POST /v1/images/jobs 202" in caplog.text
    assert ("a secret panda" in caplog.text) == logs_prompts
    assert "sesame" not in caplog.text


def test_a_strict_server_knows_its_names_alone(pipeline):
    answer = client_of(pipeline, strict=True).post(URL, json={"prompt": "a", "model": "other"})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")


def test_a_full_queue_is_429_with_a_time_to_come_again(pipeline):
    app = build_app(Service(Engine(pipeline, places=1)))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.post("/v1/images/jobs", json={"prompt": "a"}).status_code == 202
    answer = client.post(URL, json={"prompt": "a"})
    assert (answer.status_code, error_of(answer)["type"]) == (429, "rate_limit_error")
    assert int(answer.headers["retry-after"]) >= 1


def test_metrics_count_answers_by_route_and_never_name_jobs(client):
    client.get("/v1/images/jobs/secret")
    text = client.get("/metrics").text
    assert 'dalle3_jax_requests_total{route="/v1/images/jobs/{id}",status="404"}' in text
    assert "secret" not in text

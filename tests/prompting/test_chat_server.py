"""Chat servers other than the plainest, each as a real server on this machine."""

import base64
import json
import os

import pytest

from dalle3_jax.prompting import chat_server
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.prompting.chat_server import ChatServer, ServerError, answer_text, error_text, strip_reasoning
from dalle3_jax.prompting.upsampler import UpsampleRequest, upsample
from tests.prompting.test_chat import GOOD, KEY, backend, body_of, good, says, server, status

__all__ = ["server"]

PROMPT = "a panda on a beach"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(chat_server.time, "sleep", lambda seconds: None)


REASONED = {
    "closed": f"<think>The user wants a panda.</think>\n\n{GOOD}",
    "other names": f"<reasoning>\nhm\n</reasoning>{GOOD}",
    "with a prefix": f"<seed:think>hm</seed:think>{GOOD}",
    "brackets": f"[THINK]hm[/THINK]{GOOD}",
    "triangles": f"◁think▷hm◁/think▷{GOOD}",
    "twice": f"<think>a</think>\n<think>b</think>\n{GOOD}",
    "end alone": f"I will describe a panda.\n</thinking>\n{GOOD}",
    "solution": f"<|begin_of_thought|>x<|end_of_thought|><|begin_of_solution|>{GOOD}<|end_of_solution|>",
    "capitals": f"<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
    "channels": f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
    "answer": f"<think>x</think><answer>{GOOD}</answer>",
    "final answer": f"<scratchpad>x</scratchpad><final_answer>{GOOD}</final_answer>",
    "inner": f"<inner_monologue>x</inner_monologue><output>{GOOD}</output>",
    "announced": f"Thinking...\nhm\n...done thinking.\n\n{GOOD}",
    "in two parts": f"Here is my thought process:\nhm\n\nHere is my response:\n{GOOD}",
    "constrained": f"<|start|>assistant<|channel|>final <|constrain|>text<|message|>{GOOD}",
    "templates": f"<start_of_turn>model\n{GOOD}<end_of_turn></s>",
    "fenced": f"<think>x</think>\n```text\n{GOOD}\n```\n",
    "none": GOOD,
}


@pytest.mark.parametrize("name", REASONED)
def test_reasoning_before_the_answer_is_no_part_of_it(name):
    assert strip_reasoning(REASONED[name]).strip() == GOOD


def test_an_answer_that_only_reasons_is_none_and_a_quoted_tag_is_text():
    assert strip_reasoning("<think>I would begin with") == ""
    sign = 'A sign in a meadow says "</think>" in red letters.'
    assert strip_reasoning(sign) == sign


PARTS = {
    "one": [{"type": "text", "text": GOOD}],
    "pieces": [{"type": "text", "text": GOOD[:20]}, {"type": "output_text", "text": GOOD[20:]}],
    "no types": [{"text": GOOD}],
    "plain": [GOOD[:9], GOOD[9:]],
    "one alone": {"type": "text", "text": GOOD},
    "values": [{"type": "text", "text": {"value": GOOD, "annotations": []}}],
    "thoughts": [
        {"type": "reasoning", "text": "hm"},
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": GOOD},
    ],
}


@pytest.mark.parametrize("name", PARTS)
def test_content_may_come_in_parts(name):
    assert answer_text(body_of(PARTS[name])) == GOOD


SYSTEM_REFUSED = {
    "gemma": (400, {"error": {"message": "System role not supported"}}),
    "mistral": (500, {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}),
    "openai": (400, {"error": {"message": "Unsupported value: 'messages[0].role' does not support 'system'"}}),
    "google": (400, [{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma-3"}}]),
    "router": (404, {"error": {"message": "No endpoints found that support system messages"}}),
    "gateway": (403, {"message": "system prompts are not allowed"}),
    "fastapi": (422, {"detail": [{"loc": ["body"], "msg": "Only user and assistant roles are supported!"}]}),
}


@pytest.mark.parametrize("name", SYSTEM_REFUSED)
def test_a_template_without_a_system_role_is_asked_by_the_users(server, name):
    code, body = SYSTEM_REFUSED[name]

    def act(handler):
        roles = [message["role"] for message in server.requests[-1][2]["messages"]]
        if "system" in roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            handler.reply(code, json.dumps(body).encode())
        else:
            good(handler)

    server.behaviours = [act]
    asking = backend(server)
    assert upsample(PROMPT, asking).revised == GOOD
    assert "You write captions" in server.requests[-1][2]["messages"][0]["content"]
    assert upsample("a panda", asking).revised == GOOD
    assert len(server.requests) == 3, "what it wants is asked for once"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/openai/v1?api-version=preview", "/openai/v1/chat/completions?api-version=preview"),
        ("/deploy/x/chat/completions?api-version=1&b=2", "/deploy/x/chat/completions?api-version=1&b=2"),
        ("", "/chat/completions"),
        ("/", "/chat/completions"),
    ],
)
def test_the_address_is_what_the_server_is_asked_at(server, path, asked):
    assert upsample(PROMPT, Chat(f" http://127.0.0.1:{server.server_port}{path} ", "m")).revised == GOOD
    assert [path for path, _, _ in server.requests] == [asked]


def test_an_address_without_a_path_is_tried_as_v1_too(server):
    def act(handler):
        good(handler) if handler.path == "/v1/chat/completions" else handler.reply(404, b'{"detail": "Not Found"}')

    server.behaviours = [act]
    asking = Chat(f"http://127.0.0.1:{server.server_port}", "m")
    assert upsample(PROMPT, asking).revised == upsample("a panda", asking).revised == GOOD
    paths = ["/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]
    assert [path for path, _, _ in server.requests] == paths


def test_an_address_that_is_not_there_says_what_it_should_be(server):
    server.behaviours = [status(404)]
    notice = upsample(PROMPT, Chat(f"http://127.0.0.1:{server.server_port}/v2", "m")).notice
    assert "/v2/chat/completions" in notice
    assert "/v1" in notice
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://host:port/v1", "http://host:99999/v1", "http://:80/v1", "localhost:8000/v1"])
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(ValueError, match="chat url"):
        ChatServer(url)


def test_the_proxies_of_the_environment_are_used_but_where_they_are_excepted(server, monkeypatch):
    proxy = f"http://me:pass%40word@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("http_proxy", proxy)
    assert upsample(PROMPT, Chat("http://example.invalid:81/v1?a=1", "m", KEY)).revised == GOOD
    [(path, headers, _)] = server.requests
    assert path == "http://example.invalid:81/v1/chat/completions?a=1"
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:pass@word").decode()
    monkeypatch.setenv("no_proxy", "other.invalid,127.0.0.1")
    assert upsample(PROMPT, backend(server)).revised == GOOD
    assert server.requests[-1][0] == "/v1/chat/completions"
    monkeypatch.setenv("no_proxy", "*")
    assert "gaierror" in upsample(PROMPT, Chat("http://example.invalid/v1", "m")).notice


def test_secure_servers_are_reached_through_a_tunnel(server, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{server.server_port}")
    asked = []

    def do_connect(handler):
        asked.append(handler.path)
        handler.send_error(502)

    monkeypatch.setattr(server.RequestHandlerClass, "do_CONNECT", do_connect, raising=False)
    notice = upsample(PROMPT, Chat("https://example.invalid/v1", "m", KEY)).notice
    assert set(asked) == {"example.invalid:443"}
    assert "502" in notice
    assert server.requests == []


def test_a_proxy_of_another_kind_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://me:secret@proxy.invalid:1080")
    notice = upsample(PROMPT, Chat("http://example.invalid/v1", "m")).notice
    assert "proxy.invalid:1080" in notice
    assert "NO_PROXY" in notice
    assert "secret" not in notice


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_an_answer_that_was_cut_is_asked_for_again(server, reason):
    choice = {"message": {"content": GOOD.rstrip(".") + " under a wide sky whose clo"}, "finish_reason": reason}
    cut = says(json.dumps({"choices": [choice]}).encode())
    server.behaviours = [cut, good]
    assert upsample(PROMPT, backend(server)).revised == GOOD
    assert "cut off" in json.loads(server.requests[1][2]["messages"][-1]["content"])["lost"][0]
    server.behaviours = [cut]
    made = upsample(PROMPT, backend(server))
    assert (made.revised, "cut off" in made.notice) == (PROMPT, True)


def test_only_answers_that_are_used_are_kept(server, tmp_path):
    server.behaviours = [says("OK"), says("No."), says("Sure!")]
    asking = backend(server, cache=tmp_path)
    assert upsample(PROMPT, asking).revised == PROMPT
    assert list(tmp_path.iterdir()) == []
    server.behaviours = [says("OK"), good]
    assert upsample(PROMPT, asking).revised == GOOD
    asked = len(server.requests)
    assert upsample(PROMPT, backend(server, cache=tmp_path)).revised == GOOD
    assert len(server.requests) == asked
    # What an older version kept is asked for again.
    [file] = tmp_path.iterdir()
    file.write_text(json.dumps({"answer": "OK"}))
    assert file.stem == asking.cache_name(UpsampleRequest(PROMPT))
    assert upsample(PROMPT, asking).revised == GOOD
    assert json.loads(file.read_text())["answer"] == GOOD


WORDS = {
    "openai": (b'{"error": {"message": "The model `x` does not exist", "code": 404}}', "The model `x` does not exist"),
    "ollama": (b'{"error": "model \'x\' not found"}', "model 'x' not found"),
    "fastapi": (b'{"detail": "Not authenticated"}', "Not authenticated"),
    "pydantic": (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
    "google": (b'[{"error": {"message": "API key not valid"}}]', "API key not valid"),
    "vllm": (b'{"object": "error", "message": "too long"}', "too long"),
    "page": (b"<html><style>a{}</style><h1>502</h1>\n<p>Bad Gateway</p></html>", "502 Bad Gateway"),
    "controls": (b"no\x1b[2J\r\nway", "no [2J way"),
    "nothing": (b"", ""),
    "numbers": (b'{"error": 7}', ""),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_servers_own_words_are_a_line(name):
    body, words = WORDS[name]
    assert error_text(body) == words


@pytest.mark.parametrize("code", [400, 401, 403, 429, 503])
def test_the_servers_own_words_are_shown_but_for_the_key(server, code):
    said = f"Incorrect API key {KEY}: see your account"
    server.behaviours = [lambda handler: handler.reply(code, json.dumps({"error": {"message": said}}).encode())]
    notice = upsample(PROMPT, backend(server)).notice
    assert f"status {code}: Incorrect API key ***: see your account" in notice


def test_an_error_that_comes_as_an_answer_is_shown(server):
    server.behaviours = [says(json.dumps({"error": {"message": "quota exceeded"}}).encode())]
    assert "quota exceeded" in upsample(PROMPT, backend(server)).notice
    server.behaviours = [says(json.dumps({"choices": [{"message": {"content": None, "refusal": "I won't"}}]}).encode())]
    assert "I won't" in upsample(PROMPT, backend(server)).notice
    assert not any(name.lower().endswith("_proxy") for name in os.environ)


@pytest.mark.parametrize(
    ("message", "reason", "why"),
    [
        ({"content": [{"type": "refusal", "refusal": "I will not"}]}, "stop", "refuses: I will not"),
        ({"content": ""}, "content_filter", "withheld by the server"),
        ({"content": None, "reasoning_content": "hm"}, "stop", "nothing but reasoning"),
        ({"content": "<think>hm"}, "stop", "nothing but reasoning"),
        ({"content": " "}, "stop", "is empty"),
    ],
)
def test_an_answer_without_text_says_why(message, reason, why):
    body = json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode()
    with pytest.raises(ServerError, match=why):
        answer_text(body)


def test_a_stream_may_have_comments_and_names_and_empty_events():
    chunk = json.dumps({"choices": [{"delta": {"content": GOOD}, "finish_reason": "stop"}]})
    assert answer_text(f": PROCESSING\n\nevent: message\ndata:\n\ndata: {chunk}\n\n".encode()) == GOOD


@pytest.mark.parametrize("choice", [None, {"delta": "hm"}])
def test_a_stream_of_another_shape_is_no_answer(choice):
    with pytest.raises(ServerError, match="is none"):
        answer_text(f"data: {json.dumps({'choices': [choice]})}\n".encode())


@pytest.mark.parametrize("end", ["stop", "length"])
def test_a_server_that_streams_unasked_is_read_and_one_that_is_cut_is_told(end):
    deltas: list[dict] = [{"role": "assistant", "content": ""}, {"reasoning_content": "hm"}, {"content": GOOD[:9]}]
    chunks = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in [*deltas, {"content": GOOD[9:]}]]
    chunks += [{"choices": [{"delta": {}, "finish_reason": end}]}, {"choices": [], "usage": {}}]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"
    if end == "stop":
        assert answer_text(body) == GOOD
    else:
        with pytest.raises(ServerError, match="cut off"):
            answer_text(body)

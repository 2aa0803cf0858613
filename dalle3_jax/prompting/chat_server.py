"""A server with OpenAI's /chat/completions, as the many that speak it differ: addresses, proxies, roles, answers.

The key is sent to that server alone (through the proxy that the environment names for it, as by every other program),
stands in no message and no log, and redirects are not followed.
"""

import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

__all__ = ["ChatServer", "ServerError", "answer_text", "strip_reasoning"]

LARGEST = 1024 * 1024
"""Bytes of an answer that are read: reasoning is long."""

TRIES = 3
AGAIN = (408, 409, 429, 500, 502, 503, 504)
UNSUPPORTED = (400, 403, 404, 405, 422, 500, 501)
"""Statuses by which servers refuse a role."""

COMPLETIONS = "/chat/completions"
STREAMED, ENDS = (b"data:", b"event:", b"id:", b"retry:", b":"), (b"", b"[DONE]")
"""Beginnings of streams of events, a comment among them; events that hold nothing."""
CUT = ("length", "max_tokens", "model_length")
"""Reasons by which servers say that an answer has no end."""

ROLES = re.compile(r"\bsystem\b|\broles?\b|developer instruction|\balternat", re.I)
"""What templates without a system role say of one."""

NAMES = (
    r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|plan|cot|chain_of_thought|"
    r"(?:inner_)?monologue|details)"
)
OPENS = re.compile(rf"\s*[<\[◁](?:{NAMES}|\|(?:start|begin)_(?:of_)?{NAMES}\|)[>\]▷]", re.I)
ANNOUNCED = r"^\W*done thinking\W*$|^here(?:'s| is) my (?:final )?(?:response|answer):"
CLOSES = re.compile(
    rf"(?<![\"'“‘`])[<\[◁](?:/{NAMES}|\|end_(?:of_)?{NAMES}\|)[>\]▷]|{ANNOUNCED}",  # noqa: RUF001
    re.I | re.M,
)
FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.I)
ENVELOPE = re.compile(
    r"</?(?:(?:final_)?(?:answer|response)|output)>|<\|(?:begin|start|end)_(?:of_)?(?:solution|response)\|>|"
    r"<\|(?:return|end|im_end|eot_id|assistant)\|>|<start_of_turn>model|<end_of_turn>|</s>",
    re.I,
)
FENCE = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.S)
"""<think>, [THINK], <|begin_of_thought|> and their like; gpt-oss's channels; what is put about the answer itself."""


class ServerError(Exception):
    """The server has no answer; the message says why, in its own words where it has any, and never holds the key.

    `cut` tells an answer that has no end.
    """

    def __init__(self, message: str, cut: bool = False):
        super().__init__(message)
        self.cut = cut


class ChatServer:
    """One server. What it turned out to want, another path or no system role, holds for all later questions."""

    def __init__(self, url: str, key: str = ""):
        """`url` is what comes before /chat/completions, or ends with it; a query goes along. Raises ValueError."""
        url = url.strip()
        parts = urlsplit(url)
        if not is_server(parts):
            raise ValueError(f"the chat url {redact_url(url)!r}: give http(s)://HOST/PATH, without a name or password")
        self.host, self._parts, self._key, self._folds_system = parts.hostname or "", parts, key, False
        base = parts.path.rstrip("/").removesuffix(COMPLETIONS)
        self._paths = [base + COMPLETIONS, *([f"/v1{COMPLETIONS}"] if not base else [])]

    def ask(self, model: str, messages: Sequence[dict[str, str]], seconds: float) -> str:
        """The text of the answer, tried again where that may help and time is left; ServerError otherwise."""
        body = self.ask_body({"model": model, "messages": list(messages), "stream": False}, seconds)
        try:
            return answer_text(body)
        except ServerError as error:
            raise ServerError(self._redact(str(error)), error.cut) from None

    def ask_body(self, payload: Mapping[str, Any], seconds: float) -> bytes:
        """The whole answer to a payload of OpenAI's form, as `ask` asks for it; ServerError where there is none."""
        ends, wait, tries, why = time.monotonic() + seconds, 0.5, TRIES, "it was not asked"
        while tries and (left := ends - time.monotonic()) > 0:
            messages = payload["messages"]
            sent = fold_system(messages) if self._folds_system else messages
            try:
                status, after, body = self._post({**payload, "messages": sent}, left)
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, after, body = 0, 0.0, b""
                words = (error.strerror or str(error)) if isinstance(error, OSError) else ""
                why = f"it cannot be reached ({type(error).__name__}{self._words(words)})"
            if 200 <= status < 300:
                if len(body) > LARGEST:
                    raise ServerError(f"the chat server sends more than {LARGEST} bytes")
                return body
            if status:
                words = error_text(body)
                why = f"it answers with status {status}{self._words(words)}{self._hint(status)}"
                if self._adapts(status, words, sent):
                    continue
                if status not in AGAIN:
                    break
            pause = max(wait, after)
            if time.monotonic() + pause >= ends:
                break
            time.sleep(pause)
            wait, tries = 2 * wait, tries - 1
        raise ServerError(f"the chat server {self.host} did not help: {why}")

    def _adapts(self, status: int, words: str, sent: Sequence[dict[str, str]]) -> bool:
        """Whether there is another way to ask that has not been tried."""
        if status in UNSUPPORTED and ROLES.search(words) and sent[0]["role"] == "system":
            self._folds_system = True
            return True
        if status in (404, 405) and len(self._paths) > 1:
            del self._paths[0]
            return True
        return False

    def _hint(self, status: int) -> str:
        if status in (404, 405):
            path = self._paths[0]
            return f"; it was asked at {path}: the url is what comes before {COMPLETIONS}, mostly ending with /v1"
        return "; it sends elsewhere: give that address as the url" if status in (301, 302, 303, 307, 308) else ""

    def _words(self, words: str) -> str:
        return f": {self._redact(words)}" if words else ""

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _post(self, payload: dict[str, Any], timeout: float) -> tuple[int, float, bytes]:
        """(status, seconds to wait before another try, body) within `timeout` seconds, whatever the server does."""
        connection, target, headers = self._connection(timeout)
        headers |= {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dalle3_jax"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        ends = time.monotonic() + timeout
        done, sockets = threading.Event(), list[socket.socket]()  # a server that drips its headers is never idle
        late = (connection, sockets, timeout, done)
        threading.Thread(target=shut_down_late, args=late, daemon=True).start()
        try:
            connection.request("POST", target, json.dumps(payload), headers)
            sockets.append(connection.sock)  # which is the response's alone where it says that it will close
            response = connection.getresponse()
            body = read_body(response, ends)
            return response.status, retry_after(response.getheader("Retry-After")), body
        finally:
            done.set()
            connection.close()

    def _connection(self, timeout: float) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """(The connection, what to ask it for, headers), through the environment's proxy where it names one."""
        parts = self._parts
        path = self._paths[0] + (f"?{parts.query}" if parts.query else "")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        proxy = environment_proxy(parts.scheme, parts.netloc)
        if not proxy:
            return kind(self.host, parts.port, timeout=timeout), path, {}
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if via.scheme != "http" or not via.hostname:
            raise ServerError(
                f"the chat server {self.host} is not asked: the environment's proxy {redact_url(proxy)!r} is not an "
                "http:// one; name another, or the host in NO_PROXY"
            )
        login = proxy_login(via.username, via.password)
        connection = kind(via.hostname, via.port or 80, timeout=timeout)
        if not secure:
            return connection, f"http://{parts.netloc}{path}", login
        connection.set_tunnel(self.host, parts.port or 443, login)
        return connection, path, {}


def is_server(parts: SplitResult) -> bool:
    """Whether a URL names a server to ask, and nobody to ask as."""
    try:
        named = parts.hostname and parts.port != 0
    except ValueError:  # no port
        return False
    return parts.scheme in ("http", "https") and bool(named) and not (parts.username or parts.password)


def environment_proxy(scheme: str, host: str) -> str:
    """The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name for a host; "" where NO_PROXY excepts it."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    return "" if not proxy or proxy_bypass(host) else proxy


def proxy_login(name: str | None, password: str | None) -> dict[str, str]:
    """The header by which a user of a proxy is known."""
    if name is None:
        return {}
    login = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}


def fold_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The same conversation for templates without a system role: its text stands before the first question."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [{"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def answer_text(body: bytes, whole: bool = True) -> str:
    """The text of the first choice, without its reasoning; ServerError where there is none, or only its beginning.

    Where it need not be `whole`, a beginning will do.
    """
    try:
        choice = json.loads(join_stream(body))["choices"][0]
        message = choice["message"]
        content = message["content"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        words = error_text(body, plain=False)
        raise ServerError(f"the chat server's answer is none{f': {words}' if words else ''}") from None
    text, reason = strip_reasoning(join_parts(content)), str(choice.get("finish_reason")).lower()
    if whole and reason in CUT:
        raise ServerError("the chat server's answer was cut off at its longest: it must be shorter", cut=True)
    if not text.strip():
        raise ServerError(f"the chat server's answer {_why_empty(message, reason)}")
    return text


def _why_empty(message: Mapping[str, Any], reason: str) -> str:
    """Why a message says nothing."""
    content = message["content"]
    parts = content if isinstance(content, list) else []
    refusals = [part.get("refusal") for part in (message, *parts) if isinstance(part, dict)]
    if refusal := next((text for text in refusals if isinstance(text, str) and text), ""):
        return f"is none, it refuses: {shorten_words(refusal)}"
    if "filter" in reason or reason in ("safety", "refusal"):
        return f"was withheld by the server ({reason})"
    said = content.strip() if isinstance(content, str) else content
    reasons = said or any(message.get(key) for key in ("reasoning", "reasoning_content", "thinking"))
    return "is nothing but reasoning: give a model that does not reason, or more room" if reasons else "is empty"


def join_stream(body: bytes) -> bytes:
    """The answer of a server that streams although it was not asked to, as one that does not; any other as it is."""
    if not body.lstrip().startswith(STREAMED):
        return body
    events = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    choices = [choice for event in events if event not in ENDS for choice in json.loads(event)["choices"][:1]]
    text = "".join(join_parts((choice.get("delta") or {}).get("content")) for choice in choices)
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    whole = {"message": {"content": text}, "finish_reason": ends[-1] if ends else None}
    return json.dumps({"choices": [whole]}).encode()


def join_parts(content: Any) -> str:
    """The text of a message's content: a string, or the texts among its parts."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part
        if isinstance(part, dict):
            # Others hold what it thought, and calls of tools.
            text = part.get("text") if (part.get("type") or "text") in ("text", "output_text") else None
        text = text.get("value") if isinstance(text, dict) else text
        texts += [text] if isinstance(text, str) else []
    return "".join(texts)


def strip_reasoning(text: str) -> str:
    """An answer without the reasoning that local servers leave before it; "" where it is nothing else."""
    if final := list(FINAL.finditer(text)):
        text = text[final[-1].end() :]
    elif ends := list(CLOSES.finditer(text)):
        text = text[ends[-1].end() :]
    elif OPENS.match(text):
        return ""
    text = ENVELOPE.sub("", text)
    fenced = FENCE.fullmatch(text)
    return fenced[1] if fenced else text


def error_text(body: bytes, plain: bool = True) -> str:
    """A server's error message in a line: OpenAI's error object and its relatives, or `plain` text."""
    text = body[:LARGEST].decode("utf-8", "replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return shorten_words(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.S | re.I)) if plain else ""
    for _ in range(4):
        if isinstance(said, list):
            said = said[0] if said else ""
        elif isinstance(said, dict):
            keys = ("error", "errors", "fault", "message", "Message", "detail", "msg", "error_message", "faultstring")
            keys += ("error_description", "reason", "title", "text")
            said = next((said[key] for key in keys if said.get(key)), "")
    return shorten_words(said) if isinstance(said, str) else ""


def shorten_words(text: str, length: int = 200) -> str:
    """A text as the line that a terminal can show."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def redact_url(url: str) -> str:
    """A URL without what may be a secret in it."""
    return url.rpartition("@")[2].partition("?")[0][:80]


def retry_after(header: str | None) -> float:
    """Seconds that the server asks to wait."""
    return float(header) if header is not None and header.isdigit() else 0.0


def read_body(response: http.client.HTTPResponse, ends: float) -> bytes:
    """The body, or a byte more than are read of one; TimeoutError at that time, though more comes byte by byte."""
    body, more = b"", True
    while more and len(body) <= LARGEST:
        part = response.read1(LARGEST + 1 - len(body))
        if time.monotonic() >= ends:
            raise TimeoutError
        body, more = body + part, bool(part)
    return body


def shut_down_late(
    connection: http.client.HTTPConnection, sockets: list[socket.socket], seconds: float, done: threading.Event
) -> None:
    """End a connection that is not done after so many seconds: what waits for it wakes with an error or an end.

    Again and again, since on a busy machine it may not have been made yet. Once asked, it has one of the `sockets`.
    """
    done.wait(seconds)
    while not done.wait(0.05):
        for sock in filter(None, (*sockets, connection.sock)):
            with contextlib.suppress(OSError):  # it has ended already
                sock.shutdown(socket.SHUT_RDWR)

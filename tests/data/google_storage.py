"""As much of Google Cloud Storage's JSON API as files need, on this machine: listing, metadata, ranges, uploads."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

EMPTY_LINE = b"\n\n"  # as gcsfs writes it


@contextmanager
def running(objects: dict[str, bytes], asked: list[str]) -> Iterator[str]:
    """The address of a server of `objects` ("bucket/name" -> content); `asked` is told of every range."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *_: object) -> None:
            pass

        def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def json(self, value: object, status: int = 200, **headers: str) -> None:
            self.answer(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

        def do_GET(self) -> None:
            url = urlparse(self.path)
            words = url.path.strip("/").split("/")
            bucket = words[words.index("b") + 1]
            if words[-1] == "o":
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self.json(listing(bucket, query.get("prefix", ""), query.get("delimiter", "")))
                return
            name = f"{bucket}/{unquote('/'.join(words[words.index('o') + 1 :]))}"
            if name not in objects:
                self.json({"error": {"code": 404, "message": "no such object"}}, 404)
            elif "alt=media" in url.query or words[0] == "download":
                self.media(objects[name])
            else:
                self.json(described(name))

        def media(self, content: bytes) -> None:
            wanted = self.headers.get("Range")
            if not wanted:
                self.answer(content)
                return
            asked.append(wanted)
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or len(content) - 1), len(content) - 1)
            told = f"bytes {first}-{last}/{len(content)}"
            self.answer(content[first : last + 1], 206, Content_Range=told)

        def do_POST(self) -> None:
            url = urlparse(self.path)
            bucket = url.path.strip("/").split("/")[-2]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            boundary = self.headers["Content-Type"].partition("boundary=")[2].strip("\"'").encode()
            _, said, content, *_ = body.split(b"--" + boundary)
            name = f"{bucket}/{json.loads(said.partition(EMPTY_LINE)[2])['name']}"
            objects[name] = content.partition(EMPTY_LINE)[2].removesuffix(b"\n")
            self.json(described(name))

    def described(name: str) -> dict:
        bucket, _, inner = name.partition("/")
        content = objects[name]
        digest = base64.b64encode(hashlib.md5(content).digest()).decode()
        times = {"timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z"}
        return {"kind": "storage#object", "name": inner, "bucket": bucket, "size": str(len(content)), "generation": "1",
                "md5Hash": digest, "etag": digest, **times}  # fmt: skip

    def listing(bucket: str, prefix: str, delimiter: str) -> dict:
        names = [name for name in objects if name.startswith(f"{bucket}/{prefix}")]
        rest = {name: name[len(bucket) + 1 + len(prefix) :] for name in names}
        items = [described(name) for name in names if not delimiter or delimiter not in rest[name]]
        folders = {prefix + rest[n].partition(delimiter)[0] + "/" for n in names if delimiter and delimiter in rest[n]}
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

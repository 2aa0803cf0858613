"""A hub of repositories in memory on a loopback port, with as much of its protocol as downloads use."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Repository = dict[str, bytes]
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/?]+)(\?.*)?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)")


class Hub:
    """Serves `repositories` {name: {path: content}}, whose branches are `main` and `v1`, and notes what is asked for.

    `cut` are paths of which the first answer ends halfway; `gated` are paths or repositories that are refused.
    """

    def __init__(self, repositories: Mapping[str, Repository]):
        self.repositories = dict(repositories)
        self.requests: list[tuple[str, str]] = []
        self.cut: set[str] = set()
        self.gated: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._thread.is_alive():
            self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def commit(self, repo: str) -> str:
        content = sorted(self.repositories[repo].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()

    def downloads(self) -> list[str]:
        """The paths of files whose content was asked for, in order of name, as often as they were; then forgets all."""
        asked = [match["path"] for method, path in self.requests if method == "GET" and (match := FILE.fullmatch(path))]
        self.requests.clear()
        return sorted(asked)


class Handler(BaseHTTPRequestHandler):
    """One request to the hub."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path))
        if match := API.fullmatch(self.path) or FILE.fullmatch(self.path):
            self._found(**match.groupdict())
        else:
            self._answer(404, b"unknown path")

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent; the library has it on standard error."""

    def _found(self, repo: str, revision: str, path: str = "", what: str = "") -> None:
        if repo not in self.hub.repositories:
            return self._answer(404, headers={"X-Error-Code": "RepoNotFound"})
        commit = self.hub.commit(repo)
        if revision not in ("main", "v1", commit):
            return self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        files = self.hub.repositories[repo]
        if what:
            return self._answer(200, json.dumps(self._listing(repo, what, commit, files)).encode())
        if self.hub.gated.intersection((repo, path)):
            return self._answer(403, headers={"X-Error-Code": "GatedRepo"})
        if path not in files:
            return self._answer(404, headers={"X-Error-Code": "EntryNotFound"})
        self._file(path, files[path], commit)

    def _listing(self, repo: str, what: str, commit: str, files: Repository) -> object:
        if what == "tree":
            sizes = {path: len(content) for path, content in files.items()}
            return [{"type": "file", "path": path, "size": size, "oid": "0" * 40} for path, size in sizes.items()]
        return {"id": repo, "sha": commit, "siblings": [{"rfilename": path} for path in files]}

    def _file(self, path: str, content: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        start = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], headers, cut=path in self.hub.cut)
        if self.command == "GET":
            self.hub.cut.discard(path)

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}, cut: bool = False) -> None:
        self.send_response(status)
        # A connection kept alive would go on being served after the hub has stopped.
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)

"""A hub on this machine: the HTTP that `huggingface_hub` speaks, over real folders, with faults on demand.

Three servers of the loopback: the hub itself, the store of large files to which it redirects, as the real one does, and
a plain web server.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

PIECE = 1 << 18


@dataclass
class Repo:
    """A model repo. `gate` is empty, `gated` or `private`: then a request needs the token; `closed` is to all.

    `about` is what the hub tells of it in a search; `listed` are names of files that it lists beside those it has; with
    `plain` it has no large-file storage.
    """

    folder: Path
    gate: str = ""
    refs: tuple[str, ...] = ("main",)
    about: dict[str, object] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    plain: bool = False

    @property
    def commit(self) -> str:
        """Of the names, sizes and times of the files, so that an edit is a new commit."""
        state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files()]
        return hashlib.sha1(repr(state).encode()).hexdigest()

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def is_large(self, file: Path) -> bool:
        """Whether a file is in large-file storage."""
        return not self.plain and file.suffix in (".safetensors", ".gguf", ".bin")


@dataclass
class Faults:
    """What goes wrong. Each is spent as often as its number says; `hang_after` counts the bytes sent.

    `sha256` and `size` are what the listing says of large files, in place of the truth.
    """

    cuts: int = 0
    cut_after: int = 0
    statuses: list[int] = field(default_factory=list)
    retry_after: str = ""
    pause: float = 0.0
    hang_after: float = math.inf
    expired_links: int = 0
    ignore_ranges: bool = False
    no_length: bool = False
    sha256: str = ""
    size: int = 0


class HubServer:
    """Repos by name, what was asked for, and over how many connections.

    A search is answered with `search_status`, `page_length` repos at a time; one by words that are `held` waits for
    their event.
    """

    token = "hf_test"

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.moved: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.search_status = 200
        self.page_length = 1000
        self.held: dict[str, threading.Event] = {}
        self.faults = Faults()
        self.requests: list[tuple[str, str, str]] = []
        self.sent = 0
        self.connections = 0
        self.lock = threading.Lock()
        self._servers = [_Server(self, _Hub), _Server(self, _Store), _Server(self, _Web)]

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT."""
        return self._servers[0].url

    @property
    def store(self) -> str:
        """Where large files are: another host, as that of the real one is."""
        return self._servers[1].url.replace("127.0.0.1", "localhost")

    @property
    def web(self) -> str:
        """A web server that offers `files`; `/away/NAME` of the hub redirects there."""
        return self._servers[2].url

    def add(self, name: str, folder: Path, gate: str = "", refs: tuple[str, ...] = ("main",)) -> Repo:
        """Offer the files of a folder as a repo."""
        self.repos[name] = Repo(folder, gate, refs)
        return self.repos[name]

    def asked(self, part: str) -> list[tuple[str, str, str]]:
        """The requests (method, path, range) with this in their path."""
        return [request for request in self.requests if part in request[1]]

    def spend(self, name: str) -> bool:
        """Whether a fault that happens so many times happens now."""
        with self.lock:
            left = getattr(self.faults, name)
            setattr(self.faults, name, max(left - 1, 0))
            return bool(left)

    def close(self) -> None:
        """Stop serving."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A running hub."""
    hub = HubServer()
    try:
        yield hub
    finally:
        hub.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> HubServer:
        assert isinstance(self.server, _Server)
        return self.server.hub

    def setup(self) -> None:
        super().setup()
        with self.hub.lock:
            self.hub.connections += 1

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        with self.hub.lock:
            self.hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
            # The client may ask for things beside, such as names of programs that start it.
            ours = any(name in self.path for name in (*self.hub.repos, *self.hub.moved, *self.hub.files))
            status = self.hub.faults.statuses.pop(0) if ours and self.hub.faults.statuses else 0
        if status:
            headers = {"Retry-After": self.hub.faults.retry_after} if self.hub.faults.retry_after else {}
            self.answer(status, b"", headers)
            return
        self.route(urlsplit(self.path).path)

    def route(self, path: str) -> None:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def send_file(self, path: Path, headers: dict[str, str]) -> None:
        """A file or the range of it that is asked for, in pieces; cut short where a fault says so."""
        size = path.stat().st_size
        first, last, status = 0, size - 1, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not self.hub.faults.ignore_ranges:
            first, last, status = int(asked[1]), min(int(asked[2] or size), size - 1), 206
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
        self.send_response(status)
        if not self.hub.faults.no_length:
            self.send_header("Content-Length", str(last - first + 1))
        self.close_connection = self.close_connection or self.hub.faults.no_length
        self.send_header("Accept-Ranges", "bytes")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        left = last - first + 1
        if left > self.hub.faults.cut_after and self.hub.spend("cuts"):
            left, self.close_connection = self.hub.faults.cut_after, True
        with path.open("rb") as file:
            file.seek(first)
            while left > 0 and (piece := file.read(min(PIECE, left))):
                time.sleep(self.hub.faults.pause)
                while self.hub.sent >= self.hub.faults.hang_after:
                    time.sleep(0.01)
                # Counted first: who has the last piece may look at once.
                with self.hub.lock:
                    self.hub.sent += len(piece)
                self.wfile.write(piece)
                left -= len(piece)


class _Hub(_Handler):
    """`/api/models/…` and `/owner/name/resolve/…`."""

    def route(self, path: str) -> None:
        old = next((name for name in self.hub.moved if name in path), None)
        if old is not None:
            self.answer(307, b"", {"Location": self.path.replace(old, self.hub.moved[old])})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repo = self.repo(found[1], unquote(found[2] or "main"))
            if repo:
                self.info(found[1], repo)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(/.*)?", path):
            repo = self.repo(found[1], unquote(found[2]))
            if repo:
                self.answer_json([self.entry(repo, file) for file in repo.files()])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            repo = self.repo(found[1], "main")
            if repo:
                refs = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": repo.commit} for ref in repo.refs]
                self.answer_json({"branches": refs, "tags": [], "converts": []})
        elif path == "/api/models":
            asked = parse_qs(urlsplit(self.path).query)
            words = asked.get("search", [""])[0].lower().split()
            if hold := self.hub.held.get(" ".join(words)):
                hold.wait(10)
            named = [name for name in self.hub.repos if all(word in name.lower() for word in words)]
            if self.hub.search_status == 200:
                self.page(asked, named[: int(asked.get("limit", ["1000"])[0])])
            else:
                self.answer(self.hub.search_status, b"", {"Retry-After": self.hub.faults.retry_after or "1"})
        elif path.startswith("/away/"):
            self.answer(302, b"", {"Location": self.hub.web + path.removeprefix("/away")})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo = self.repo(found[1], unquote(found[2]))
            if repo:
                self.resolve(found[1], repo, unquote(found[3]))
        else:
            self.refuse(404, "RepoNotFound", "Not found")

    def page(self, asked: dict[str, list[str]], names: list[str]) -> None:
        """A part of what was found, and where the next one is."""
        first = int(asked.get("cursor", ["0"])[0])
        after = first + self.hub.page_length
        query = urlencode({**asked, "cursor": after}, doseq=True)
        more = {"Link": f'<{self.hub.url}/api/models?{query}>; rel="next"'} if after < len(names) else {}
        hits = [self.hit(name, self.hub.repos[name]) for name in names[first:after]]
        self.answer(200, json.dumps(hits).encode(), {"Content-Type": "application/json", **more})

    def repo(self, name: str, revision: str) -> Repo | None:
        """The repo, or an answer that says why not."""
        repo = self.hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repo is None or (repo.gate == "private" and not known):
            self.refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        elif repo.gate == "closed" and "/resolve/" in self.path:
            self.refuse(403, "GatedRepo", f"Access to model {name} is restricted. You are not in its list.")
        elif repo.gate == "gated" and not known and "/resolve/" in self.path:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. Please log in.")
        elif revision not in (*repo.refs, repo.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def hit(self, name: str, repo: Repo) -> dict[str, object]:
        """A repo as a search tells of it."""
        siblings = [{"rfilename": str(file.relative_to(repo.folder))} for file in repo.files()]
        return {"id": name, "modelId": name, "siblings": siblings, "gated": False, **repo.about}

    def info(self, name: str, repo: Repo) -> None:
        entries = [self.entry(repo, file) for file in repo.files()]
        siblings = [{"rfilename": entry.pop("path"), "blobId": entry.pop("oid"), **entry} for entry in entries]
        for sibling in siblings:
            sibling.pop("type")
            if isinstance(lfs := sibling.get("lfs"), dict):
                lfs["sha256"] = self.hub.faults.sha256 or lfs.pop("oid")
                sibling["size"] = self.hub.faults.size or sibling["size"]
        siblings += [{"rfilename": listed, "blobId": "0" * 40, "size": 10} for listed in repo.listed]
        gated = "manual" if repo.gate == "gated" else False
        document = {"id": name, "modelId": name, "sha": repo.commit, "private": repo.gate == "private", "gated": gated}
        self.answer_json({**document, "siblings": siblings, "tags": [], "downloads": 0})

    def entry(self, repo: Repo, file: Path) -> dict[str, object]:
        digest, size = _digest(file), file.stat().st_size
        entry: dict[str, object] = {
            "type": "file",
            "path": str(file.relative_to(repo.folder)),
            "size": size,
            "oid": _git_hash(file),
        }
        if repo.is_large(file):
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 135}
        return entry

    def resolve(self, name: str, repo: Repo, file: str) -> None:
        path = repo.folder / file
        if path not in repo.files():
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{_git_hash(path)}"'}
        if not repo.is_large(path):
            self.send_file(path, headers)
            return
        size, digest = str(path.stat().st_size), f'"{_digest(path)}"'
        place = f"{self.hub.store}/{name}/{file}?signature={len(self.hub.requests)}"
        self.answer(302, b"", {**headers, "Location": place, "X-Linked-Size": size, "X-Linked-ETag": digest})

    def answer_json(self, document: object) -> None:
        self.answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


class _Store(_Handler):
    """The large files, for who has a signed link; a token must not arrive here."""

    def route(self, path: str) -> None:
        owner, name, file = unquote(path).strip("/").split("/", 2)
        if "Authorization" in self.headers:
            self.answer(400, b"a token left the hub", {})
        elif "signature=" not in self.path or self.hub.spend("expired_links"):
            self.answer(403, b"expired", {})
        else:
            folder = self.hub.repos[f"{owner}/{name}"].folder
            self.send_file(folder / file, {"ETag": '"of-the-store"'})


class _Web(_Handler):
    """Files by their names, to everybody; a token must not arrive here."""

    def route(self, path: str) -> None:
        found = self.hub.files.get(unquote(path).strip("/"))
        if "Authorization" in self.headers:
            self.answer(400, b"a token left the hub", {})
        elif found is None:
            self.answer(404, b"not here", {})
        else:
            self.send_file(found, {"ETag": f'"{_digest(found)[:16]}"'})


_DIGESTS: dict[tuple[Path, int, int], tuple[str, str]] = {}


def _digests(file: Path) -> tuple[str, str]:
    """SHA-256, and the hash that git would give it."""
    found = file.stat()
    key = (file, found.st_size, found.st_mtime_ns)
    if key not in _DIGESTS:
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(f"blob {found.st_size}\0".encode())
        with file.open("rb") as content:
            while piece := content.read(PIECE):
                sha256.update(piece)
                sha1.update(piece)
        _DIGESTS[key] = sha256.hexdigest(), sha1.hexdigest()
    return _DIGESTS[key]


def _digest(file: Path) -> str:
    return _digests(file)[0]


def _git_hash(file: Path) -> str:
    return _digests(file)[1]

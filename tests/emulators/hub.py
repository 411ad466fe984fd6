"""The Hugging Face Hub on loopback: datasets as git repositories with large files, behind the Hub's HTTP API.

It keeps the rules that a publisher depends on: a commit names its parent (412 if `main` has moved), large files exist
before a commit names them and have the SHA-256 that they are named by, small files are text, a tag is created once
(409), a card has valid metadata, writing needs a token of the dataset, and a trusted publisher gets one for the
identity of a workflow. Faults on demand. Storage by Xet is not here: HF_HUB_DISABLE_XET=1.

https://huggingface.co/docs/hub/api, https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md,
https://huggingface.co/docs/hub/trusted-publishers, and what the client sends
"""

from __future__ import annotations

import base64
import copy
import fnmatch
import io
import itertools
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.emulators.loopback import LoopbackServer, QuietHandler

DATASET = "idc/indices"
TOKEN, READER, EXPIRED = "hf_writer", "hf_reader", "hf_expired"
ATTRIBUTES = "*.parquet filter=lfs\n*.zip filter=lfs\n"
REGULAR = 10_000_000
"""Bytes of the largest file that is not stored as a large one."""
_TAG = re.compile(r"[\w][\w.-]*", re.ASCII)
_LICENSES = {
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-3.0"),
    *("cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "other", "unknown"),
}
_LIMITS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
_SIZES = {"n<1K", *(f"{low}<n<{high}" for low, high in itertools.pairwise(_LIMITS))}


class Refusal(Exception):  # noqa: N818 -- an answer of the service
    """An answer with an error: its status, and the headers in which the Hub says which."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}


@dataclass(frozen=True)
class Blob:
    """A file of a commit: its bytes, and whether it is stored by its SHA-256."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        """What git calls the file itself, or of a large one the pointer to it."""
        content = self.content
        if self.large:
            content = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n".encode()
            )
        return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """How a listing shows it."""
        about = {"type": "file", "path": path, "oid": self.oid, "size": len(self.content)}
        return about | (
            {"lfs": {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}} if self.large else {}
        )


@dataclass
class Repository:
    """A dataset: all commits, in their order, with their files; what `main` and the tags name; the large files."""

    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    main: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commits:
            self.add({".gitattributes": Blob(ATTRIBUTES.encode(), large=False)}, "initial commit")

    def add(self, files: dict[str, Blob], message: str) -> str:
        """Commit these files, whatever `main` has."""
        lines = [f"{name} {blob.oid}" for name, blob in sorted(files.items())]
        named = "\n".join([self.main, str(len(self.commits)), message, *lines]).encode()
        self.main = sha1(named, usedforsecurity=False).hexdigest()
        self.commits[self.main] = files
        self.messages.append(message)
        return self.main

    def revision(self, name: str) -> str:
        commit = self.main if name == "main" else self.tags.get(name, name)
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return commit

    def contents(self, name: str = "main") -> dict[str, bytes]:
        """The files of a revision, but those of git."""
        files = self.commits[self.revision(name)]
        return {path: blob.content for path, blob in files.items() if not path.startswith(".")}


@dataclass
class Hub:
    """The service as a test sees it.

    Attributes:
        repositories: by `OWNER/NAME`.
        tokens: the datasets that a token may write to, and whether it may write: `write`, `read` or `expired`.
        trusted: resources for which an identity is exchanged for a token, such as `datasets/idc/indices`.
        requests: method and path of every request so far.
        uploads: the SHA-256 of every large file that was uploaded so far.
        committed: the names of the files in every commit so far.
        fault: asked before a request is answered, with its number from 0; says how it ends: `reset`, `lost` (it was
            done), `busy`, `throttled`, `page` (of a proxy); or "".
        page: files in one answer of a listing.
        retry_after: seconds that a `throttled` answer asks for: the Hub counts requests in windows of five minutes.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    committed: list[list[str]] = field(default_factory=list)
    fault: Callable[[int], str] = lambda _: ""
    page: int = 1000
    retry_after: int = 300
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def dataset(self) -> Repository:
        return self.repositories[DATASET]

    @property
    def identity(self) -> dict[str, str]:
        """What a job of GitHub Actions with `id-token: write` has in its environment."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/github/id-token?job=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
        }

    def client(self, home: Path) -> dict[str, str]:
        """The environment in which the client finds this service, and keeps its files in a folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def save(self) -> Repository:
        """The dataset as it is, for `restore`."""
        return copy.deepcopy(self.dataset)

    def restore(self, saved: Repository) -> None:
        with self.lock:
            self.repositories[DATASET] = copy.deepcopy(saved)
            self.without_faults()

    def renew(self) -> None:
        """One empty dataset, and nothing wrong."""
        with self.lock:
            self.repositories = {DATASET: Repository()}
            self.tokens = {TOKEN: "write", READER: "read", EXPIRED: "expired"}
            self.trusted, self.page, self.retry_after = set(), 1000, 300
            self.without_faults()

    def without_faults(self) -> None:
        """Count from 0, and nothing goes wrong."""
        self.requests.clear()
        self.uploads.clear()
        self.committed.clear()
        self.fault = lambda _: ""

    def cut(self, number: int, after: bool) -> None:
        """Answer no request from this one on, as if the publisher was killed; it is done before if `after`."""

        def fault(now: int) -> str:
            if now < number:
                return ""
            return "lost" if after and now == number else "reset"

        self.fault = fault


@contextmanager
def serve() -> Iterator[Hub]:
    """Serve a Hub until the end of the block."""
    hub = Hub()

    class Handler(_Handler):
        service = hub

    with LoopbackServer(Handler) as server:
        hub.url = server.url
        hub.renew()
        yield hub


def card_problems(text: str) -> list[str]:
    """What the Hub says of the metadata of a card."""
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        return ["empty or missing yaml metadata"]
    try:
        metadata = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        return [f"bad yaml: {error}"]
    found = []
    licenses = metadata.get("license", [])
    found += [
        f'"license" {name!r} must be one of'
        for name in ([licenses] if isinstance(licenses, str) else licenses)
        if name not in _LICENSES
    ]
    found += [
        f'"size_categories" {name!r} must be one of'
        for name in metadata.get("size_categories", [])
        if name not in _SIZES
    ]
    found += ['"tags" must be texts' for tag in metadata.get("tags", []) if not isinstance(tag, str)]
    names = [config.get("config_name") for config in metadata.get("configs", [])]
    if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
        found.append('"configs" must have different names')
    for config in metadata.get("configs", []):
        if not all({*file} == {"split", "path"} for file in config["data_files"]):
            found.append(f'"configs" {config["config_name"]}: data_files must have split and path')
    if sum(config.get("default", False) is True for config in metadata.get("configs", [])) > 1:
        found.append('"configs" has several defaults')
    return found


class _Handler(QuietHandler):
    service: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.service.lock:
            number = len(self.service.requests)
            self.service.requests.append(f"{self.command} {path}")
        fault = self.service.fault(number)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "reset":
            self._reset()
            return
        try:
            if fault == "busy":
                raise Refusal(503, "Service temporarily unavailable")
            if fault == "throttled":
                raise Refusal(429, "Too many requests", **{"Retry-After": str(self.service.retry_after)})
            with self.service.lock:
                status, headers, content = self._answer(path, query, body)
        except Refusal as refusal:
            status, headers = refusal.status, refusal.headers
            content = json.dumps({"error": str(refusal)}).encode()
        if fault == "lost":
            self._reset()
            return
        if fault == "page":
            status, headers, content = 200, {"Content-Type": "text/html"}, b"<html>Sign in to the network</html>"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Close the connection as a machine that went down does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.wfile = io.BytesIO()
        self.close_connection = True

    def _answer(self, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        for method, pattern, act in _ROUTES:
            if self.command == method and (found := re.fullmatch(pattern, path)):
                answer = act(self, *found.groups(), **({"query": query} if method == "GET" else {"body": body}))
                if isinstance(answer, tuple):
                    return answer
                return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
        raise Refusal(404, f"Sorry, we can't find the page: {self.command} {path}")

    # --- Accounts -----------------------------------------------------------------------------------------------

    def _token(self) -> str:
        """The token of a request; empty without one."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if not kind:
            return ""
        if kind != "Bearer" or self.service.tokens.get(token, "expired") == "expired":
            raise Refusal(401, f'User Access Token "{token[:6]}" is expired')
        return token

    def _repository(self, name: str, write: bool) -> Repository:
        token = self._token()
        if not token and (write or name not in self.service.repositories):
            raise Refusal(401, "Invalid username or password.")
        if name not in self.service.repositories:
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write and self.service.tokens[token] not in ("write", f"datasets/{name}"):
            raise Refusal(403, "You don't have the rights to write to this dataset")
        return self.service.repositories[name]

    def identity(self, query: Mapping[str, str]) -> object:
        """The identity of a job, as GitHub says it."""
        if self.headers.get("Authorization") != "Bearer of-the-job":
            raise Refusal(401, "Unauthorized")
        return {"value": f"identity for {query['audience']}"}

    def exchange(self, body: bytes) -> object:
        """A token for an identity."""
        asked = json.loads(body)
        assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        if (
            asked["subject_token"] != f"identity for {self.service.url}"
            or asked["resource"] not in self.service.trusted
        ):
            raise Refusal(403, "No trusted publisher matches the identity")
        token = f"hf_jwt_{len(self.service.tokens)}"
        self.service.tokens[token] = asked["resource"]
        return {"access_token": token, "token_type": "bearer", "expires_in": 3600}

    # --- Reading ------------------------------------------------------------------------------------------------

    def auth_check(self, name: str, query: Mapping[str, str]) -> object:  # noqa: ARG002
        """Whether a token may write."""
        self._repository(name, write=True)
        return {}

    def refs(self, name: str, query: Mapping[str, str]) -> object:  # noqa: ARG002
        repository = self._repository(name, write=False)
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit} for tag, commit in repository.tags.items()
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.main}
        return {"branches": [main], "converts": [], "tags": tags}

    def revision(self, name: str, revision: str, query: Mapping[str, str]) -> object:  # noqa: ARG002
        repository = self._repository(name, write=False)
        return {"id": name, "sha": repository.revision(revision), "siblings": []}

    def tree(self, name: str, revision: str, query: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(name, write=False)
        files = repository.commits[repository.revision(revision)]
        start = int(query.get("cursor", 0))
        end = start + self.service.page
        entries = [blob.entry(path) for path, blob in sorted(files.items())][start:end]
        headers = {"Content-Type": "application/json"}
        if end < len(files):
            more = f"{self.service.url}/api/datasets/{name}/tree/{revision}?recursive=True&cursor={end}"
            headers["Link"] = f'<{more}>; rel="next"'
        return 200, headers, json.dumps(entries).encode()

    def resolve(
        self,
        name: str,
        revision: str,
        path: str,
        query: Mapping[str, str],  # noqa: ARG002
    ) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(name, write=False)
        files = repository.commits[repository.revision(revision)]
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        if files[path].large:
            return 302, {"Location": f"{self.service.url}/storage/{name}/{files[path].sha256}"}, b""
        return 200, {"Content-Type": "text/plain"}, files[path].content

    def download(self, name: str, oid: str, query: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:  # noqa: ARG002
        return 200, {"Content-Type": "application/octet-stream"}, self.service.repositories[name].objects[oid]

    # --- Writing ------------------------------------------------------------------------------------------------

    def validate(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        given = json.loads(body)
        assert given["repoType"] == "dataset"
        errors = [{"message": problem} for problem in card_problems(given["content"])]
        answer = json.dumps({"errors": errors, "warnings": []}).encode()
        return 400 if errors else 200, {"Content-Type": "application/json"}, answer

    def preupload(self, name: str, revision: str, body: bytes) -> object:
        repository = self._repository(name, write=True)
        files = repository.commits[repository.revision(revision)]
        patterns = [line.split()[0] for line in files[".gitattributes"].content.decode().splitlines()]
        answer = []
        for file in json.loads(body)["files"]:
            matches = any(fnmatch.fnmatch(file["path"], pattern) for pattern in patterns)
            large = matches or file["size"] > REGULAR or not _is_text(base64.b64decode(file["sample"]))
            found = files.get(file["path"])
            oid = (found.sha256 if found.large else found.oid) if found else None
            mode = "lfs" if large else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answer}

    def batch(self, name: str, body: bytes) -> object:
        repository, given = self._repository(name, write=True), json.loads(body)
        assert (given["operation"], given["hash_algo"]) == ("upload", "sha256")
        assert "basic" in given["transfers"]
        objects: list[dict[str, Any]] = []
        for wanted in given["objects"]:
            objects.append(dict(wanted))
            if wanted["oid"] not in repository.objects:
                upload = {"href": f"{self.service.url}/upload/{name}/{wanted['oid']}"}
                verify = {"href": f"{self.service.url}/verify/{name}"}
                objects[-1]["actions"] = {"upload": upload, "verify": verify}
        return {"transfer": "basic", "objects": objects}

    def upload(self, name: str, oid: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The storage behind the Hub, whose addresses are signed."""
        if "Authorization" in self.headers:
            raise Refusal(400, "Only one auth mechanism allowed")
        if sha256(body).hexdigest() != oid:
            raise Refusal(400, "The provided checksum does not match")
        self.service.repositories[name].objects[oid] = body
        self.service.uploads.append(oid)
        return 200, {}, b""

    def verify(self, name: str, body: bytes) -> object:
        repository, given = self._repository(name, write=True), json.loads(body)
        if len(repository.objects.get(given["oid"], b"")) != given["size"]:
            raise Refusal(404, "Object not found", "EntryNotFound")
        return {}

    def commit(self, name: str, revision: str, body: bytes) -> object:
        repository = self._repository(name, write=True)
        assert revision == "main"
        header, *lines = [json.loads(line) for line in body.splitlines()]
        assert header["key"] == "header"
        if header["value"].get("parentCommit", repository.main) != repository.main:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        self.service.committed.append([line["value"]["path"] for line in lines])
        files = dict(repository.commits[repository.main])
        for line in lines:
            _apply(files, repository, line["key"], line["value"])
        oid = repository.add(files, header["value"]["summary"])
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.service.url}/datasets/{name}/commit/{oid}"}

    def tag(self, name: str, revision: str, body: bytes) -> object:
        repository, tag = self._repository(name, write=True), json.loads(body)["tag"]
        if not _TAG.fullmatch(tag):
            raise Refusal(400, "Invalid tag name")
        if tag in repository.tags:
            raise Refusal(409, "Tag reference exists already")
        repository.tags[tag] = repository.revision(revision)
        return {}


def _is_text(sample: bytes) -> bool:
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.end == len(sample)  # a letter that the sample cuts
    return b"\0" not in sample


def _apply(files: dict[str, Blob], repository: Repository, key: str, value: Mapping[str, Any]) -> None:
    """One line of a commit."""
    path = value["path"]
    if key == "deletedFile":
        if path not in files:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        del files[path]
    elif key == "lfsFile":
        if value["oid"] not in repository.objects or len(repository.objects[value["oid"]]) != value["size"]:
            raise Refusal(
                400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist: {path}"
            )
        files[path] = Blob(repository.objects[value["oid"]], large=True)
    else:
        assert (key, value["encoding"]) == ("file", "base64")
        content = base64.b64decode(value["content"])
        if len(content) > REGULAR or not _is_text(content):
            raise Refusal(400, f"Your push was rejected because it contains binary or large files: {path}")
        if path == "README.md" and (problems := card_problems(content.decode())):
            raise Refusal(400, f"Invalid metadata in README.md: {problems[0]}")
        files[path] = Blob(content, large=False)


_API, _NAME = "/api/datasets/", r"([\w.-]+/[\w.-]+?)"
_ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", f"{_API}{_NAME}/auth-check/write", _Handler.auth_check),
    ("GET", f"{_API}{_NAME}/refs", _Handler.refs),
    ("GET", f"{_API}{_NAME}/revision/(.+)", _Handler.revision),
    ("GET", f"{_API}{_NAME}/tree/(.+)", _Handler.tree),
    ("GET", f"/datasets/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET", f"/storage/{_NAME}/([0-9a-f]+)", _Handler.download),
    ("GET", "/github/id-token", _Handler.identity),
    ("POST", "/oauth/token", _Handler.exchange),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", f"{_API}{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/datasets/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", f"/upload/{_NAME}/([0-9a-f]+)", _Handler.upload),
    ("POST", f"/verify/{_NAME}", _Handler.verify),
    ("POST", f"{_API}{_NAME}/commit/(.+)", _Handler.commit),
    ("POST", f"{_API}{_NAME}/tag/(.+)", _Handler.tag),
]

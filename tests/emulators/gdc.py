"""A server on loopback that behaves like the API of the Genomic Data Commons, faults included.

It has projects with cases, filters them, sorts and pages as the real one does (10 hits a page unless asked, as the
documentation of the API says), over HTTP/1.1. Faults happen to the requests that come next, one each:

    with GdcServer({"TCGA-LUAD": {"TCGA-05-4244": "34040b83-..."}}) as server:
        server.faults = ["busy", "", "reset"]     # the first is answered 503, the second well, the third not at all

What it does not prove: that the real API is as it is described.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

from tests.emulators.loopback import LoopbackServer, QuietHandler

Answer = dict[str, Any]


def case_id(patient: str) -> str:
    """A case identifier: the same for the same patient."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, patient))


def _grows(answer: Answer) -> None:
    answer["data"]["pagination"]["total"] += 1


def _understates(answer: Answer) -> None:
    answer["data"]["pagination"]["total"] = len(answer["data"]["hits"]) - 1


def _shrinks(answer: Answer) -> None:
    """One hit less, and a total that does not tell: only a second page can give it away."""
    answer["data"]["hits"] = answer["data"]["hits"][:-1]


def _loses_all(answer: Answer) -> None:
    answer["data"]["hits"] = []


def _repeats(answer: Answer) -> None:
    answer["data"]["hits"][-1:] = answer["data"]["hits"][:1]


def _second_case(answer: Answer) -> None:
    hits = answer["data"]["hits"]
    hits.append({**hits[0], **({"case_id": case_id("second")} if "case_id" in hits[0] else {})})
    answer["data"]["pagination"]["total"] += 1


def _stranger(answer: Answer) -> None:
    hit = answer["data"]["hits"][0]
    hit |= dict.fromkeys(hit.keys() & {"submitter_id", "project_id"}, "STRANGER")


def _no_id(answer: Answer) -> None:
    for key in ("case_id", "project_id"):
        answer["data"]["hits"][0].pop(key, None)


def _null_id(answer: Answer) -> None:
    hit = answer["data"]["hits"][0]
    hit |= dict.fromkeys(hit.keys() & {"submitter_id", "project_id"})


def _elsewhere(answer: Answer) -> None:
    answer["data"]["pagination"]["from"] += 1


def _no_total(answer: Answer) -> None:
    answer["data"]["pagination"]["total"] = None


def _no_data(answer: Answer) -> None:
    del answer["data"]


_DAMAGE: dict[str, Callable[[Answer], None]] = {
    "total grows": _grows,
    "total too small": _understates,
    "hit lost": _shrinks,
    "all hits lost": _loses_all,
    "hit twice": _repeats,
    "two cases": _second_case,
    "stranger": _stranger,
    "no id": _no_id,
    "null id": _null_id,
    "page elsewhere": _elsewhere,
    "no total": _no_total,
    "no data": _no_data,
}
"""What can be wrong in an answer; most need hits, and without any the answer stays well."""
_STATUS = {
    "busy": 503,
    "limit": 429,
    "limit, 7 s": 429,
    "limit, date": 429,
    "limit, an hour": 429,
    "refused": 400,
    "broken": 500,
    "moved": 302,
}
PASSING = ("busy", "limit", "limit, 7 s", "limit, date", "broken", "reset", "silence", "cut short")
"""Faults that a client should get over."""
LASTING = ("refused", "moved", "limit, an hour", "html", "empty", *_DAMAGE)
"""Faults that no second request helps against."""


class GdcServer(LoopbackServer):
    """The server. It stops when the `with` block ends, and with the process.

    Attributes:
        projects: case identifiers by patient (`submitter_id`) by project; may be changed at any time.
        faults: of the next requests, "" for none; taken from the front.
        requests: endpoint and body of every request so far.
        page_limit: the most hits that a page has, whatever is asked for.
    """

    def __init__(self, projects: Mapping[str, Mapping[str, str]]) -> None:
        self.projects = {project: dict(cases) for project, cases in projects.items()}
        self.faults: list[str] = []
        self.requests: list[tuple[str, Answer]] = []
        self.page_limit = 10_000
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        super().__init__(_handler(self))

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        super().__exit__()

    def answer(self, endpoint: str, query: Answer) -> Answer:
        """A well answer.

        Raises:
            KeyError, TypeError, ValueError: the real one would say 400.
        """
        documents = self._documents(endpoint)
        if filters := query.get("filters"):
            documents = [document for document in documents if _matches(document, filters)]
        key, _, direction = query.get("sort", "").partition(":")
        if key:
            documents.sort(key=lambda document: document[key], reverse=direction == "desc")
        start, size = int(query.get("from", 0)), min(int(query.get("size", 10)), self.page_limit)
        fields = set(query["fields"].split(",")) | {"id"}
        page = [{field: document[field] for field in fields & document.keys()} for document in documents]
        page = page[start : start + size]
        pagination = {"count": len(page), "total": len(documents), "size": size, "from": start, "sort": key}
        return {"data": {"hits": page, "pagination": pagination}, "warnings": {}}

    def _documents(self, endpoint: str) -> list[Answer]:
        if endpoint == "projects":
            return [{"id": project, "project_id": project} for project in self.projects]
        return [
            {"id": case, "case_id": case, "submitter_id": patient, "project.project_id": project}
            for project, cases in self.projects.items()
            for patient, case in cases.items()
        ]


def _matches(document: Answer, filters: Answer) -> bool:
    if filters["op"] == "and":
        return all(_matches(document, part) for part in filters["content"])
    if filters["op"] != "in":
        raise ValueError(filters["op"])
    return document[filters["content"]["field"]] in filters["content"]["value"]


def _handler(server: GdcServer) -> type[QuietHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint = self.path.strip("/")
            with server.lock:
                server.requests.append((endpoint, body))
                fault = server.faults.pop(0) if server.faults else ""
                if endpoint not in ("cases", "projects") or self.headers["Content-Type"] != "application/json":
                    return self._send(404, b'{"message": "no such endpoint"}')
                try:
                    answer = server.answer(endpoint, body)
                except (KeyError, TypeError, ValueError) as error:
                    return self._send(400, json.dumps({"message": repr(error)}).encode())
            return self._answer(fault, answer)

        def _answer(self, fault: str, answer: Answer) -> None:
            if fault in _STATUS:
                later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=9), usegmt=True)
                wait = {"limit, 7 s": "7", "limit, date": later, "limit, an hour": "3600"}.get(fault)
                headers = {"Retry-After": wait} if wait else {"Location": self.path} if fault == "moved" else {}
                return self._send(_STATUS[fault], b'{"message": "no"}', headers)
            if fault in ("html", "empty"):
                return self._send(200, b"<html>Under maintenance</html>" if fault == "html" else b"")
            if fault == "silence":
                server.stopping.wait(5)
            if fault in ("silence", "reset"):
                # with nothing to linger for, closing sends RST instead of FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return None
            if fault in _DAMAGE and answer.get("data", {}).get("hits"):
                _DAMAGE[fault](answer)
            data = json.dumps(answer).encode()
            if fault == "cut short":
                self.close_connection = True
                return self._send(200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            return self._send(200, data)

        def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler

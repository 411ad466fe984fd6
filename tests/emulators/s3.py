"""An S3 server on loopback that serves folders as buckets, counts what is asked of it, and has bad weather.

It is a process of its own, so that it takes no time from its client, and it ends with the process that started it:

    with S3Server({"public": folder}, latency=0.03, faults={"slow down": 0.05}) as s3:
        ...                      # a client, with `s3.environment` or `s3.url`
        s3.set(faults={})        # the sky clears
        s3.seen().ranges         # what was read of each object

Buckets are read-only and path style: ListObjectsV2, HEAD and GET with Range, If-Match and If-None-Match. Their files
may be changed at any time; an ETag stands for a file's identity, size and time, and is no MD5 of anything, as with
objects that were uploaded in parts. A private bucket asks for a signature, and looks at its key and its region alone.

What it does not prove: that the real service is as its documentation describes it.
https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

REGION = "us-east-1"
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
OWNER = {
    "AWS_REGION": REGION,
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
"""The environment of whoever may read the private buckets."""
FAULTS = ("slow down", "error", "reset", "truncated", "stall", "flipped")


@dataclass
class Settings:
    """How the server behaves.

    Attributes:
        buckets: folders, by name of bucket.
        private: buckets that only OWNER may read.
        latency: seconds before each answer.
        bandwidth: bytes a second of all bodies together, 0 for as many as there can be.
        page: the most keys of one page of a listing.
        faults: share of the requests that meet each of FAULTS; at most one each.
        seed: decides which requests; a request that is made again has another fate.
        stall: seconds of silence in a stalled answer.
        replaced: objects ("bucket/key") that change: file to put in place of the object, and before the how manieth
            GET from now on (0 for the next one).
    """

    buckets: dict[str, str]
    private: list[str] = field(default_factory=list)
    latency: float = 0.0
    bandwidth: float = 0.0
    page: int = 1000
    faults: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    stall: float = 3600.0
    replaced: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := self.faults.keys() - set(FAULTS):
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
        if sum(self.faults.values()) > 1:
            raise ValueError("the shares of the faults add up to more than 1")


@dataclass
class Seen:
    """What the server has seen since it started, or since `clear`.

    Attributes:
        requests: by kind: list, get, head, other.
        statuses: of all answers; a fault that is no answer has the status of the answer it spoils.
        faults: by kind, as they happened.
        bytes: of bodies of objects, by "bucket/key": as far as they were sent.
        listed: bytes of listings.
        ranges: first and last byte of each GET, by "bucket/key", in order, failed ones too.
        signed: requests with an Authorization header.
        most_at_once: requests that were being answered at the same time.
        connections: that were opened.
    """

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    listed: int = 0
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    signed: int = 0
    most_at_once: int = 0
    connections: int = 0

    @property
    def total(self) -> int:
        """Bytes of bodies of objects."""
        return sum(self.bytes.values())


class S3Server:
    """The server, as the process that started it sees it. Use it in a `with` block."""

    def __init__(self, buckets: Mapping[str, Path], **settings: Any) -> None:
        """Args:
        settings: see `Settings`.
        """
        self._settings = Settings({name: str(folder) for name, folder in buckets.items()}, **settings)

    def __enter__(self) -> S3Server:
        command = [sys.executable, "-m", "tests.emulators.s3_service"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._ask(asdict(self._settings))}"
        self.environment = {"AWS_ENDPOINT_URL": self.url}
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def set(self, **settings: Any) -> None:
        """Change some of `Settings`, for the requests to come."""
        replace(self._settings, **settings)
        self._ask(settings)

    def seen(self) -> Seen:
        """What was seen so far."""
        found = self._ask("seen")
        counters = {name: Counter(found[name]) for name in ("requests", "statuses", "faults", "bytes")}
        ranges = {key: [(first, last) for first, last in read] for key, read in found["ranges"].items()}
        return Seen(**{**found, **counters, "ranges": ranges})

    def clear(self) -> None:
        """Start to count anew; requests that were made before have their first fate again."""
        self._ask("clear")

    def _ask(self, command: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

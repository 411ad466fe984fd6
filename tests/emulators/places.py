"""Stores for tests: a folder and a bucket, with the same ways to interfere with both.

A request is one call of the store for a folder, one of HTTP for a bucket.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from idc_indexer.errors import IndexerError
from idc_indexer.publish.stores import Headers, Store, StoredObject
from idc_indexer.publish.stores.gcs import GcsStore
from idc_indexer.publish.stores.local import LocalStore
from tests.emulators.gcs import BUCKET, Gcs

PREFIX = "some/where"


@dataclass(frozen=True)
class Seen:
    """An object, its identity, and its bytes."""

    generation: int
    content: bytes


class Place(Protocol):
    """What a test does with a store besides publishing there."""

    uri: str

    @property
    def count(self) -> int:
        """Requests since the last `without_faults`."""

    def store(self) -> Store:
        """A client of the store, for one process."""

    def without_faults(self) -> None:
        """End all interference, and count requests from 0 again."""

    def cut(self, number: int, after: bool) -> None:
        """Kill the process at that request, before the store handles it or after."""

    def between(self, number: int, act: Callable[[], object]) -> None:
        """Call `act` just before the store handles that request."""

    def look(self) -> dict[str, Seen]:
        """All objects, by name."""

    def save(self) -> Callable[[], None]:
        """A function that restores all objects as they are now, with their generations, and ends all interference."""

    def write(self, name: str, content: bytes) -> None:
        """Write an object as another program does, without a precondition."""

    def remove(self, name: str) -> None:
        """Remove an object as another program does."""


class KilledError(IndexerError):
    """The process was killed; the store handles none of its requests any more."""


class FolderPlace:
    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self._folder = folder
        self._plain = LocalStore(folder)
        self.without_faults()

    @property
    def count(self) -> int:
        return self._count

    def without_faults(self) -> None:
        self._count = 0
        self._cut: tuple[int, bool] | None = None
        self._act: tuple[int, Callable[[], object]] | None = None
        self._dead = False

    def store(self) -> Store:
        return _Watched(self)

    def cut(self, number: int, after: bool) -> None:
        self._cut = number, after

    def between(self, number: int, act: Callable[[], object]) -> None:
        self._act = number, act

    def request(self, method: str, *arguments: Any) -> Any:
        """A call of the store."""
        number = self._count
        self._count += 1
        if self._act and self._act[0] == number:
            act, self._act = self._act[1], None
            act()
        cut_here = self._cut and self._cut[0] == number
        self._dead = self._dead or bool(cut_here and self._cut and not self._cut[1])
        if self._dead:
            raise KilledError("killed")
        result = getattr(self._plain, method)(*arguments)
        if cut_here:
            self._dead = True
            raise KilledError("killed")
        return result

    def look(self) -> dict[str, Seen]:
        listing = self._plain.list("")
        return {name: Seen(found.generation, self._plain.read(found)) for name, found in listing.items()}

    def save(self) -> Callable[[], None]:
        saved = self.look()

        def restore() -> None:
            now = self.look()
            for name in now.keys() - saved.keys():
                self.remove(name)
            for name, seen in saved.items():
                if now.get(name) != seen:
                    self.write(name, seen.content)
                    os.utime(self._folder / name, ns=(seen.generation, seen.generation))
            self.without_faults()

        return restore

    def write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()


class _Watched:
    """A store whose calls pass through a `FolderPlace`."""

    def __init__(self, place: FolderPlace) -> None:
        self._place = place
        self.uri = place.uri
        self.checksum = place._plain.checksum

    def list(self, prefix: str) -> dict[str, StoredObject]:
        found: dict[str, StoredObject] = self._place.request("list", prefix)
        return found

    def read(self, source: StoredObject) -> bytes:
        data: bytes = self._place.request("read", source)
        return data

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:
        made: StoredObject = self._place.request("put", name, data, headers, generation)
        return made

    def copy(self, source: StoredObject, name: str, headers: Headers, generation: int) -> StoredObject:
        made: StoredObject = self._place.request("copy", source, name, headers, generation)
        return made

    def delete(self, target: StoredObject) -> None:
        self._place.request("delete", target)


class BucketPlace:
    def __init__(self, gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        # The client would send it in the background, at no fixed place among the others.
        monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        self.uri = f"gs://{BUCKET}/{PREFIX}"
        self.gcs = gcs
        # One client, because a new connection takes most of the time of a small request.
        self._store = GcsStore(BUCKET, PREFIX, first_wait=0.001, patience=5)
        gcs.renew()

    @property
    def count(self) -> int:
        return len(self.gcs.requests)

    def store(self) -> Store:
        return self._store

    def without_faults(self) -> None:
        self.gcs.requests.clear()
        self.gcs.fault = lambda _: ""

    def cut(self, number: int, after: bool) -> None:
        def fault(now: int) -> str:
            if now < number:
                return ""
            return "lost" if after and now == number else "dead"

        self.gcs.fault = fault

    def fail(self, number: int, fault: str) -> None:
        """That request fails; the next ones do not."""
        self.gcs.fault = lambda now: fault if now == number else ""

    def between(self, number: int, act: Callable[[], object]) -> None:
        def fault(now: int) -> str:
            if now == number:
                self.gcs.fault = lambda _: ""
                act()
            return ""

        self.gcs.fault = fault

    def look(self) -> dict[str, Seen]:
        return {
            name.removeprefix(f"{PREFIX}/"): Seen(int(found["generation"]), self.gcs.content(name))
            for name, found in self.gcs.objects().items()
        }

    def save(self) -> Callable[[], None]:
        resources = copy.deepcopy(self.gcs.objects())
        contents = {name: self.gcs.content(name) for name in resources}

        def restore() -> None:
            now = self.gcs.objects()
            for name in now.keys() - resources.keys():
                self.gcs.delete(name)
            for name, resource in resources.items():
                if now.get(name) != resource:
                    self.gcs.storage.create_file(BUCKET, name, contents[name], copy.deepcopy(resource))
            self.without_faults()

        return restore

    def write(self, name: str, content: bytes) -> None:
        self.gcs.put(f"{PREFIX}/{name}", content)

    def remove(self, name: str) -> None:
        self.gcs.delete(f"{PREFIX}/{name}")

"""Ways to damage a release. Those that rewrite a file make all that depends on its bytes fit again.

So that one promise alone is broken, and `verify` has to find that one.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import setting

Damage = Callable[[Path], object]
Change = Callable[[pa.Table], pa.Table]


def manifest(release: Path, **changes: Any) -> dict[str, Any]:
    """The manifest, with changes at its top."""
    document: dict[str, Any] = json.loads((release / "manifest.json").read_text())
    if changes:  # a release that several tests share is only read
        document |= changes
        (release / "manifest.json").write_text(json.dumps(document))
    return document


def without_descriptions(release: Path) -> Path:
    """The same release as an older toolkit built it, in which one damage breaks one promise."""
    document = manifest(release)
    for file in document.pop("descriptions"):
        (release / file["name"]).unlink()
    del document["published_at"]
    (release / "manifest.json").write_text(json.dumps(document))
    return release


def in_manifest(index: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    """Change what the manifest says of an index."""

    def damage(release: Path) -> None:
        entries = manifest(release)["indices"]
        manifest(release, indices=[change(entry) if entry["name"] == index else entry for entry in entries])

    return damage


def put(release: Path, name: str, content: bytes, rows: int | None = None) -> None:
    """Replace a file, its digests, and the rows that the manifest counts in it. Descriptions of the old rows go."""
    if "descriptions" in manifest(release):
        without_descriptions(release)
    (release / name).write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    counted = {} if rows is None else {"rows": rows}

    def change(entry: dict[str, Any]) -> dict[str, Any]:
        files = [file | facts | counted if file["name"] == name else file for file in entry["files"]]
        digests = {file["name"].removeprefix(entry["name"]): file["sha256"] for file in files}
        linked = {"query_sha256": digests[".sql"], "schema_sha256": digests["_schema.json"]}
        return entry | linked | {"files": files} | (counted if name == f"{entry['name']}.parquet" else {})

    for entry in manifest(release)["indices"]:
        in_manifest(entry["name"], change)(release)
    if name.endswith(".parquet"):
        put(release, f"{name}.sha256", f"{facts['sha256']}  {name}\n".encode())


def rewrite(index: str, how: Change, version: str | None = "25.0.0") -> Damage:
    """Other rows or columns."""

    def damage(release: Path) -> None:
        table = how(pq.read_table(release / f"{index}.parquet"))
        sink = io.BytesIO()
        metadata = {"idc_index_data_version": version} if version else None
        pq.write_table(table.replace_schema_metadata(metadata), sink)
        put(release, f"{index}.parquet", sink.getvalue(), table.num_rows)

    return damage


def redescribe(index: str, **changes: Any) -> Damage:
    """Another schema document."""

    def damage(release: Path) -> None:
        document = json.loads((release / f"{index}_schema.json").read_text()) | changes
        put(release, f"{index}_schema.json", json.dumps(document).encode())

    return damage


def change_byte(name: str) -> Damage:
    """One bit in the middle of a file, which nothing else fits then."""

    def damage(release: Path) -> None:
        content = bytearray((release / name).read_bytes())
        content[len(content) // 2] ^= 1
        (release / name).write_bytes(content)

    return damage


def change_pages(index: str) -> Damage:
    """Rows that cannot be read, under a footer that can."""

    def damage(release: Path) -> None:
        content = (release / f"{index}.parquet").read_bytes()
        footer = int.from_bytes(content[-8:-4], "little") + 8
        pages = b"\xff" * (len(content) - footer - 4)
        put(release, f"{index}.parquet", content[:4] + pages + content[-footer:])

    return damage


def swapped(first: int, second: int) -> Change:
    def change(table: pa.Table) -> pa.Table:
        order = list(range(table.num_rows))
        order[first], order[second] = order[second], order[first]
        return table.take(order)

    return change


def with_first(column: str, value: Any) -> Change:
    """Another value in the first row."""
    return lambda table: pa.concat_tables([setting(column, [value])(table[:1]), table[1:]])


def cast(column: str, kind: pa.DataType, nullable: bool = True) -> Change:
    field = pa.field(column, kind, nullable)
    return lambda table: table.cast(pa.schema([field if f.name == column else f for f in table.schema]))


# --- At random ---------------------------------------------------------------------------------------------------

Random = random.Random
AtRandom = Callable[[bytes, Random], bytes]
_ODD = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
"""Bytes at which numbers of variable length, lengths and types of Thrift change their meaning."""


def _changed(content: bytes, at: int, byte: int) -> bytes:
    return content[:at] + bytes([byte]) + content[at + 1 :]


def _footer(content: bytes) -> range:
    """Where the footer of a Parquet file lies."""
    return range(max(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), 4), len(content) - 8)


def flipped_bits(content: bytes, rng: Random) -> bytes:
    """One to eight bits, anywhere."""
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(content))
        content = _changed(content, at, content[at] ^ 1 << rng.randrange(8))
    return content


def odd_footer(content: bytes, rng: Random) -> bytes:
    """One to three bytes of the footer: any, or those that are odd."""
    for _ in range(rng.randint(1, 3)):
        content = _changed(content, rng.choice(_footer(content)), rng.choice([rng.randrange(256), rng.choice(_ODD)]))
    return content


def odd_names(content: bytes, rng: Random) -> bytes:
    """Names of columns that are no UTF-8, or other ones."""
    names = list(re.finditer(rb"[A-Za-z_]{4,}", content[_footer(content).start :]))
    found = rng.choice(names)
    start = _footer(content).start + found.start()
    return _changed(content, start + rng.randrange(len(found[0])), rng.choice([0xFF, 0xC3, 0x00, 0x1B, 0x22, 0x41]))


def odd_pages(content: bytes, rng: Random) -> bytes:
    """One to twenty bytes of pages and their headers, under a footer that stays."""
    for _ in range(rng.randint(1, 20)):
        at = rng.randrange(4, _footer(content).start)
        content = _changed(content, at, rng.choice([rng.randrange(256), rng.choice(_ODD)]))
    return content


def truncated(content: bytes, rng: Random) -> bytes:
    """A download that broke off; now and then with the footer put at its end all the same."""
    end = rng.randrange(len(content))
    return content[:end] + (content[_footer(content).start :] if rng.random() < 0.5 else b"")


def swapped_blocks(content: bytes, rng: Random) -> bytes:
    """Two blocks of one size in each other's place."""
    size = rng.randint(1, max(len(content) // 4, 1))
    a, b = sorted(rng.sample(range(0, max(len(content) - size, 2)), 2))
    b = max(b, a + size)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def blanked(content: bytes, rng: Random) -> bytes:
    """A hole: bytes that a disk or a download lost."""
    start = rng.randrange(len(content))
    size = rng.randint(1, max(len(content) // 8, 1))
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


PARQUET: dict[str, AtRandom] = {
    "footer": odd_footer,
    "names": odd_names,
    "pages": odd_pages,
    "truncated": truncated,
    "swapped": swapped_blocks,
    "bits": flipped_bits,
    "hole": blanked,
}
"""Damages of a Parquet file, by kind."""

_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, "", " ", "../../x", "/etc/passwd", "a\x1b[2J", "x" * 300, "\u202e", "\ud800"),
    *([], {}, [[]], {"name": 1}, ["x"] * 3, "25.0.0", "STRING", "RECORD", "0" * 64, "1" * 5000),
)


def odd_json(content: bytes, rng: Random) -> bytes:
    """One to three values of a JSON document: another, gone, or there twice."""
    document = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        parent, key = rng.choice(places)
        match rng.randrange(4):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.append(parent[key])
            case _:
                parent[key] = rng.choice(_VALUES)
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


JSON: dict[str, AtRandom] = {
    "values": odd_json,
    "bits": flipped_bits,
    "truncated": lambda c, r: c[: r.randrange(len(c))],
}
"""Damages of a JSON document, by kind."""
ZIP: dict[str, AtRandom] = {
    "bits": flipped_bits,
    "directory": lambda c, r: _changed(c, r.randrange(max(len(c) - 3_000, 0), len(c)), r.randrange(256)),
    "truncated": lambda c, r: c[: r.randrange(len(c))],
    "hole": blanked,
}
"""Damages of a wheel, by kind."""

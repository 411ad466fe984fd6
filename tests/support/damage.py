"""Ways to damage a release. Those that rewrite a file make all that depends on its bytes fit again.

So that one promise alone is broken, and `verify` has to find that one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
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
    document |= changes
    (release / "manifest.json").write_text(json.dumps(document))
    return document


def in_manifest(index: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    """Change what the manifest says of an index."""

    def damage(release: Path) -> None:
        entries = manifest(release)["indices"]
        manifest(release, indices=[change(entry) if entry["name"] == index else entry for entry in entries])

    return damage


def put(release: Path, name: str, content: bytes, rows: int | None = None) -> None:
    """Replace a file, its digests, and the rows that the manifest counts in it."""
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

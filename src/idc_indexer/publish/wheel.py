"""The data wheel: `idc-index-data`, the package in which the `idc-index` client finds the indices.

A standard build backend, hatchling, builds it from a verified release. The same release gives the same bytes, with the
same versions of hatchling and zlib. There is no source distribution: the package is data, and its source is the
release. The templates of the files that are generated for it lie in `wheel_project/`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from hatchling.builders.wheel import WheelBuilder

from idc_indexer import data_package, documents, files
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.release.derived import CSV, IDC_INDEX
from idc_indexer.release.manifest import (
    MANIFEST,
    PUBLISHED,
    FileEntry,
    IndexEntry,
    Release,
    folder,
    parquet_name,
    schema_name,
    sql_name,
    zip_name,
)
from idc_indexer.release.verify import open_valid

PACKAGE = "idc_index_data"
LIMIT = 100_000_000
"""Bytes of the largest file that PyPI accepts."""
NEARLY = 90_000_000
"""Bytes above which the wheel of the next release may be too large."""
NEEDED = (IDC_INDEX, "prior_versions_index")
"""The client opens the Parquet of both on start, and stops in a TypeError when one is missing."""
_TEMPLATES = Path(__file__).with_name("wheel_project")


def build_wheel(
    release: Path, out: Path, exclude: Collection[str] = (), published: str = PUBLISHED, partial: bool = False
) -> Path:
    """Build the data wheel of a release.

    Args:
        release: the release folder; it is verified first.
        out: the folder of the wheel; the wheel appears there complete, and replaces an older one of the same name.
        exclude: indices whose Parquet to leave out, although their schemas say `"in_wheel": true`.
        partial: whether to build a wheel that lacks a table of `NEEDED`.
        published: address under which the release is, or will be, published as `<version>/release_artifacts/`.

    Raises:
        UsageError: `exclude` has an index that the wheel would not carry anyway.
        IndexerError: the release is not valid, or the wheel would lack a table of `NEEDED` or be larger than PyPI
            accepts.
    """
    _check_epoch()
    verified = open_valid(release)
    carried = _carried(verified, exclude)
    if (missing := [name for name in NEEDED if name not in carried]) and not partial:
        raise IndexerError(
            f"the wheel would lack {' and '.join(map(parquet_name, missing))}, which the idc-index client needs",
            "Build the release with all indices, and exclude neither. For a wheel for other uses, give --partial.",
        )
    with files.os_errors_for(out):
        out.mkdir(parents=True, exist_ok=True)
    with files.os_errors_for(out), files.temporary_folder(".wheel-", out) as scratch, _temporary_files_in(scratch):
        project, made = scratch / "project", scratch / "made"
        _write_project(project, verified, carried, f"{published}/{folder(verified.release_version)}".removesuffix("/"))
        (wheel,) = map(Path, WheelBuilder(str(project)).build(directory=str(made)))
        if wheel.stat().st_size > LIMIT:
            raise IndexerError(
                f"{wheel.name} has {wheel.stat().st_size / 1e6:.1f} MB, PyPI accepts {LIMIT / 1e6:.0f} MB: "
                + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in _by_size(carried)),
                f"Leave one out, such as with --exclude {_by_size(carried)[0][0]}, or set "
                '"in_wheel": false in its schema.',
            )
        return wheel.replace(out / wheel.name)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have hatchling write its temporary wheel there, so that a killed process leaves nothing elsewhere."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _carried(release: Release, exclude: Collection[str]) -> dict[str, IndexEntry]:
    """The indices whose Parquet is in the wheel."""
    carried = {
        entry.name: entry
        for entry in release.indices
        if documents.load(release.path / schema_name(entry.name), "artifact")["in_wheel"]
    }
    if unknown := sorted(set(exclude) - carried.keys()):
        raise UsageError(f"--exclude {unknown[0]}: not in the wheel", f"The wheel has: {', '.join(carried)}.")
    return {name: entry for name, entry in carried.items() if name not in exclude}


def wheel_files(release: Release, carried: Collection[str] | None = None) -> list[FileEntry]:
    """The files of a valid release that its data wheel holds, besides the manifest.

    Args:
        carried: indices whose Parquet is in the wheel; by default, those whose schemas say so.
    """
    parquet = {parquet_name(name) for name in (_carried(release, ()) if carried is None else carried)}
    texts = {name(entry.name) for entry in release.indices for name in (schema_name, sql_name)}
    held = parquet | texts | {zip_name(CSV)}
    return [file for entry in release.entries for file in entry.files if file.name in held]


def _by_size(carried: Mapping[str, IndexEntry]) -> list[tuple[str, int]]:
    """Indices and the bytes of their Parquet, the largest first."""
    sizes = [(name, entry.files[0].bytes) for name, entry in carried.items()]
    return sorted(sizes, key=lambda pair: -pair[1])


def _write_project(project: Path, release: Release, carried: Collection[str], published: str) -> None:
    """Write a project from which the build backend can build a wheel; the release's files stay where they are."""
    ours = Path(data_package.__file__).parent
    package = project / PACKAGE
    package.mkdir(parents=True)
    for name in ("__init__.py", "py.typed"):
        shutil.copyfile(ours / name, package / name)
    shutil.copyfile(documents.bundled("LICENSE"), project / "LICENSE")
    names = [MANIFEST, *(file.name for file in wheel_files(release, carried))]
    values = {
        "release": release,
        "published": published,
        "included": {str(release.path.absolute() / name): f"{PACKAGE}/{name}" for name in names},
        "tables": [_about(release, entry, carried) for entry in release.indices],
    }
    for path in (project / "README.md", project / "pyproject.toml", package / "_version.py"):
        path.write_text(_rendered(path.name, **values), encoding="utf-8", newline="\n")


def _about(release: Release, entry: IndexEntry, carried: Collection[str]) -> dict[str, Any]:
    """A line of the table in the README."""
    parquet = entry.files[0]
    noun = documents.load(release.path / schema_name(entry.name), "artifact")["row"]
    about = {"name": entry.name, "file": parquet.name, "rows": entry.rows, "bytes": parquet.bytes}
    return {**about, "noun": noun, "carried": entry.name in carried}


def _rendered(file: str, **values: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701 -- TOML, Python and Markdown, where values are quoted by filters
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # A JSON string is a string in TOML and in Python, too.
    environment.filters |= {"json": json.dumps, "cell": _cell}
    return environment.get_template(f"{file}.jinja").render(package=PACKAGE, **values)


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


_ZIP_SECONDS = range(315_532_800, 4_354_819_200)
"""The times that a zip file can hold, 1980 to 2107, in seconds since 1970."""


def _check_epoch() -> None:
    """Refuse a SOURCE_DATE_EPOCH that hatchling would fail on."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None and not (given.isascii() and given.isdecimal() and int(given[:20]) in _ZIP_SECONDS):
        raise IndexerError(
            f"SOURCE_DATE_EPOCH is {given[:40]!r}, not the seconds since 1970 of a time from 1980 to 2107",
            "A wheel is a zip file, which holds no other times. Correct it, or unset it.",
        )

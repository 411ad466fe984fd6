"""The data wheel: `idc-index-data`, the package in which the `idc-index` client finds the indices.

Made from a verified release by a standard build backend, hatchling; the same release makes the same bytes, with the
same versions of hatchling and zlib. There is no source distribution: the package is data, and its source is this
toolkit and the release.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from idc_indexer import data_package, documents, files
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.records import PUBLISHED, folder
from idc_indexer.release.derived import CSV
from idc_indexer.release.manifest import MANIFEST, IndexEntry, Release, parquet_name, schema_name, sql_name, zip_name
from idc_indexer.release.verify import open_valid

PACKAGE = "idc_index_data"
LIMIT = 100_000_000
"""Bytes of the largest file that PyPI takes."""
NEARLY = 90_000_000
"""Bytes above which the next release may be too large."""


def build_wheel(release: Path, out: Path, exclude: Collection[str] = (), published: str = PUBLISHED) -> Path:
    """Build the data wheel of a release.

    Args:
        release: the release folder; it is verified first.
        out: the folder of the wheel; it appears there whole, in place of an older one of the same name.
        exclude: indices whose Parquet stays outside, although their schemas say that the wheel carries it.
        published: address under which the release is, or will be, published as `<version>/release_artifacts/`.

    Raises:
        UsageError: `exclude` has an index that the wheel would not carry anyway.
        IndexerError: the release is not whole, or the wheel larger than PyPI takes.
    """
    _check_epoch()
    verified = open_valid(release)
    carried = _carried(verified, exclude)
    with files.os_errors_for(out):
        out.mkdir(parents=True, exist_ok=True)
    with files.os_errors_for(out), tempfile.TemporaryDirectory(prefix=".wheel-", dir=out) as scratch:
        project, made = Path(scratch, "project"), Path(scratch, "made")
        _write_project(project, verified, carried, f"{published}/{folder(verified.release_version)}".removesuffix("/"))
        # Its timestamps are SOURCE_DATE_EPOCH, or always the same.
        (wheel,) = map(Path, WheelBuilder(str(project)).build(directory=str(made)))
        if wheel.stat().st_size > LIMIT:
            raise IndexerError(
                f"{wheel.name} has {wheel.stat().st_size / 1e6:.1f} MB, PyPI takes {LIMIT / 1e6:.0f} MB: "
                + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in _by_size(carried)),
                f"Leave one out, such as --exclude {_by_size(carried)[0][0]}, or have its schema say "
                '"in_wheel": false.',
            )
        return wheel.replace(out / wheel.name)


def _carried(release: Release, exclude: Collection[str]) -> dict[str, IndexEntry]:
    """The indices whose Parquet is in the wheel."""
    carried = {
        entry.name: entry
        for entry in release.indices
        if documents.load(release.path / schema_name(entry.name), "artifact")["in_wheel"]
    }
    if unknown := sorted(set(exclude) - carried.keys()):
        raise UsageError(f"--exclude {unknown[0]}: not in the wheel", f"In it are: {', '.join(carried)}.")
    return {name: entry for name, entry in carried.items() if name not in exclude}


def _by_size(carried: Mapping[str, IndexEntry]) -> list[tuple[str, int]]:
    """Indices and the bytes of their Parquet, the largest first."""
    sizes = [(name, entry.files[0].bytes) for name, entry in carried.items()]
    return sorted(sizes, key=lambda pair: -pair[1])


def _write_project(project: Path, release: Release, carried: Collection[str], published: str) -> None:
    """A project that the build backend can make a wheel of; the files of the release stay where they are."""
    ours = Path(data_package.__file__).parent
    package = project / PACKAGE
    package.mkdir(parents=True)
    for name in ("__init__.py", "py.typed"):
        shutil.copyfile(ours / name, package / name)
    shutil.copyfile(documents.bundled("LICENSE"), project / "LICENSE")
    (package / "_version.py").write_text(
        f'"""Which release this is."""\n\nversion = "{release.release_version}"\npublished = {json.dumps(published)}\n',
        encoding="utf-8",
        newline="\n",
    )
    (project / "README.md").write_text(_readme(release, carried, published), encoding="utf-8", newline="\n")
    names = [MANIFEST, *(parquet_name(name) for name in carried)]
    for entry in release.indices:
        names += [schema_name(entry.name), sql_name(entry.name)]
    if CSV in {entry.name for entry in release.derived}:
        names.append(zip_name(CSV))
    included = {str(release.path.absolute() / name): f"{PACKAGE}/{name}" for name in names}
    (project / "pyproject.toml").write_text(_pyproject(release, included), encoding="utf-8", newline="\n")


def _pyproject(release: Release, included: Mapping[str, str]) -> str:
    # A JSON string is a TOML string too.
    lines = "\n".join(f"{json.dumps(source)} = {json.dumps(target)}" for source, target in included.items())
    return f"""\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "idc-index-data"
version = "{release.release_version}"
description = "Indices of NCI Imaging Data Commons, release {release.idc_version}"
readme = "README.md"
license = "MIT"
license-files = ["LICENSE"]
requires-python = ">=3.10"
keywords = ["imaging", "cancer", "DICOM", "IDC", "parquet"]
classifiers = [
  "Intended Audience :: Science/Research",
  "Programming Language :: Python :: 3",
  "Topic :: Scientific/Engineering :: Medical Science Apps.",
  "Typing :: Typed",
]

[project.urls]
Homepage = "https://imaging.datacommons.cancer.gov"

[tool.hatch.build.targets.wheel]
packages = ["{PACKAGE}"]
core-metadata-version = "2.4"

[tool.hatch.build.targets.wheel.force-include]
{lines}
"""


def _readme(release: Release, carried: Collection[str], published: str) -> str:
    rows = []
    for entry in release.indices:
        noun = documents.load(release.path / schema_name(entry.name), "artifact")["row"]
        where = "here" if entry.name in carried else f"[published]({published}/{parquet_name(entry.name)})"
        rows.append(f"| `{entry.name}` | {noun} | {entry.rows:,} | {entry.files[0].bytes / 1e6:.2f} | {where} |")
    table = "\n".join(rows)
    return f"""\
# idc-index-data

The indices of [NCI Imaging Data Commons](https://imaging.datacommons.cancer.gov) (IDC) as Parquet: what is in 100 TB of
public cancer images, and where. This is version {release.release_version}, of IDC release {release.idc_version}. The
[`idc-index`](https://pypi.org/project/idc-index/) client reads them.

| index | one row for each | rows | MB | Parquet |
|---|---|---|---|---|
{table}

```python
import idc_index_data

idc_index_data.IDC_INDEX_PARQUET_FILEPATH  # a path
idc_index_data.INDEX_METADATA["idc_index"]["schema"]["columns"]
idc_index_data.INDEX_METADATA["idc_index"]["sha256"]
```

Schemas and queries of all indices are here, and `manifest.json`, which says where each of them came from. There are
wheels only: the package is data, which no source distribution could build; its source is the release it was made of.
"""


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

"""The indices of NCI Imaging Data Commons: the paths of their files, their schemas and their queries.

Importing this package opens no file of data: each constant is computed when it is first used. The constants are paths,
or None when this package does not have the file; a package that is imported from a zip file unpacks it to a temporary
folder until the interpreter ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import published, version

if TYPE_CHECKING:
    from pathlib import Path

__version__ = version
__all__ = [
    "IDC_INDEX_CSV_ARCHIVE_FILEPATH",
    "IDC_INDEX_PARQUET_FILEPATH",
    "INDEX_METADATA",
    "PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH",
    "__version__",
]

IDC_INDEX_CSV_ARCHIVE_FILEPATH: Path | None
IDC_INDEX_PARQUET_FILEPATH: Path | None
PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH: Path | None
INDEX_METADATA: dict[str, dict[str, Any]]
"""By the name of an index:

* `parquet_filepath`, `schema_path`, `sql_path`: files of this package; `parquet_filepath` is None for a large index,
  whose Parquet is at `url` only.
* `schema`, `sql`: the content of the last two.
* `rows`, `sha256`, `url`: number of rows, SHA-256 in hexadecimal and address of the published Parquet.
* `manifest`: the manifest of the release, with the size and digest of every file, and the source tables.

Plain dicts: all of them are read when INDEX_METADATA is first used, in about 20 ms.
"""

_PATHS = {
    "IDC_INDEX_CSV_ARCHIVE_FILEPATH": "idc_index.csv.zip",
    "IDC_INDEX_PARQUET_FILEPATH": "idc_index.parquet",
    "PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH": "prior_versions_index.parquet",
}
_SCHEMA = "_schema.json"


def __getattr__(name: str) -> Any:
    if name in _PATHS:
        value: Any = _path(_PATHS[name])
    elif name == "INDEX_METADATA":
        value = _metadata()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _metadata() -> dict[str, dict[str, Any]]:
    manifest = _json("manifest.json")
    tables = {entry["name"]: entry["files"][0] for entry in manifest["indices"]}
    names = (file.name for file in _files().iterdir())
    found = {}
    for index in sorted(name.removesuffix(_SCHEMA) for name in names if name.endswith(_SCHEMA)):
        parquet, schema, sql = f"{index}.parquet", f"{index}{_SCHEMA}", f"{index}.sql"
        found[index] = {
            "parquet_filepath": _path(parquet),
            "schema_path": _path(schema),
            "schema": _json(schema),
            "sql_path": _path(sql),
            "sql": _text(sql),
            "rows": tables[index]["rows"],
            "sha256": tables[index]["sha256"],
            "url": f"{published}/{parquet}",
            "manifest": manifest,
        }
    return found


def _files() -> Any:
    from importlib.resources import files

    return files(__name__)


def _path(name: str) -> Path | None:
    file = _files() / name
    if not file.is_file():
        return None
    import atexit
    from importlib.resources import as_file

    unpacked = as_file(file)
    path = unpacked.__enter__()
    atexit.register(unpacked.__exit__, None, None, None)
    return path


def _text(name: str) -> str:
    text: str = (_files() / name).read_text(encoding="utf-8")
    return text


def _json(name: str) -> Any:
    import json

    return json.loads(_text(name))

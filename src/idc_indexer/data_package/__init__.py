"""The indices of NCI Imaging Data Commons: where their files are, and what is in them.

Nothing is read before it is asked for. The constants are paths of files, None when this package does not carry
them; those of a package that is imported from a zip file are unpacked until the interpreter ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
INDEX_METADATA: Mapping[str, Mapping[str, Any]]
"""By the name of an index:

* `parquet_filepath`, `schema_path`, `sql_path`: files of this package; a large index is published beside it, and its
  `parquet_filepath` is None.
* `schema`, `sql`: what the last two hold.
* `rows`, `sha256`, `url`: number of rows, SHA-256 in hexadecimal and address of the published Parquet.
* `manifest`: the manifest of the release, with the size and the digest of every file and where they came from.
"""

_PATHS = {
    "IDC_INDEX_CSV_ARCHIVE_FILEPATH": "idc_index.csv.zip",
    "IDC_INDEX_PARQUET_FILEPATH": "idc_index.parquet",
    "PRIOR_VERSIONS_INDEX_PARQUET_FILEPATH": "prior_versions_index.parquet",
}
_SCHEMA = "_schema.json"
_read: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    if name in _PATHS:
        value: Any = _path(_PATHS[name])
    elif name == "INDEX_METADATA":
        value = {index: _Metadata(index) for index in _indices()}
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Metadata(Mapping[str, Any]):
    """What is known of one index; every value is read when it is first asked for."""

    _KEYS = (
        "parquet_filepath", "schema_path", "schema", "sql_path", "sql", "rows", "sha256", "url", "manifest",
    )  # fmt: skip

    def __init__(self, index: str) -> None:
        self._index = index
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            if key not in self._KEYS:
                raise KeyError(key)
            self._values[key] = self._value(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._KEYS)

    def __len__(self) -> int:
        return len(self._KEYS)

    def __repr__(self) -> str:
        return f"<metadata of {self._index}: {', '.join(self._KEYS)}>"

    def _value(self, key: str) -> Any:
        parquet, schema, sql = f"{self._index}.parquet", f"{self._index}{_SCHEMA}", f"{self._index}.sql"
        if key in ("parquet_filepath", "schema_path", "sql_path"):
            return _path({"parquet_filepath": parquet, "schema_path": schema, "sql_path": sql}[key])
        if key == "schema":
            return _json(schema)
        if key == "sql":
            return _text(sql)
        if key == "url":
            return f"{published}/{parquet}"
        manifest = _json("manifest.json")
        if key == "manifest":
            return manifest
        (entry,) = (entry for entry in manifest["indices"] if entry["name"] == self._index)
        (file,) = (file for file in entry["files"] if file["name"] == parquet)
        return file[key]


def _files() -> Any:
    from importlib.resources import files

    return files(__name__)


def _indices() -> list[str]:
    names = (file.name for file in _files().iterdir())
    return sorted(name.removesuffix(_SCHEMA) for name in names if name.endswith(_SCHEMA))


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
    if name not in _read:
        import json

        _read[name] = json.loads(_text(name))
    return _read[name]

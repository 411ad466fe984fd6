"""JSON documents: this module reads, writes and checks all of them.

The JSON Schemas lie in `schemas/documents/`. Written documents are deterministic: the same content gives the same
bytes on every machine.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

from idc_indexer.errors import IndexerError

_PACKAGE = Path(__file__).parent
_MAX_VALUE = 80
"""Characters of a value that a message shows."""


def bundled(name: str) -> Path:
    """The path of a part of the toolkit that is not code: `queries`, `schemas`, `sample` or `LICENSE`.

    The wheel has them inside the package; a checkout has all but the sample at its top.
    """
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parents[1] / name


@cache
def _schemas() -> Registry[Any]:
    """All schemas by kind: one may refer to another by its kind, and is not read again for that."""
    paths = (bundled("schemas") / "documents").glob("*.json")
    resources = ((path.stem, Resource.from_contents(json.loads(path.read_bytes()))) for path in paths)
    return Registry().with_resources(resources).crawl()


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_schemas().contents(kind), registry=_schemas())


def validate(document: Any, kind: str, context: str) -> None:
    """Check a document against the JSON Schema of its kind.

    Args:
        kind: name of a file in `schemas/documents`, without its suffix.
        context: the file, for the message.

    Raises:
        IndexerError: naming the file and the path of the fault in the document.
    """
    problem = jsonschema.exceptions.best_match(_validator(kind).iter_errors(document))
    if problem is not None:
        raise IndexerError(f"{context}: {problem.json_path}: {_without_value(problem)}")


def _without_value(problem: jsonschema.ValidationError) -> str:
    """What is wrong, without the value if that is an object, an array or long."""
    value = repr(problem.instance)
    if len(value) <= _MAX_VALUE and not isinstance(problem.instance, (dict, list)):
        return problem.message
    return problem.message.replace(value, "the value")


def load(path: Path, kind: str) -> Any:
    """Read and check a document.

    Raises:
        IndexerError: when it cannot be read, is not JSON, or is not of that kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IndexerError(f"{path}: {error.strerror}") from error
    return parse(data, kind, str(path))


def parse(data: bytes, kind: str, context: str) -> Any:
    """Read a document from bytes and check it, as `validate` does.

    Raises:
        IndexerError: when it is not JSON, or not of that kind.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise IndexerError(f"{context}: not JSON: {error}") from error
    validate(document, kind, context)
    return document


def dump(document: Any, kind: str) -> bytes:
    """The bytes of a document, checked: two spaces, `\\n`, UTF-8, keys in the order given."""
    validate(document, kind, kind)
    # A half of a surrogate pair, which a text of others may have, becomes the escape of JSON that it was read from.
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def dump_unchecked(document: Any) -> bytes:
    """The bytes of a document that the cache keeps, on one line; `load` checks it.

    The listings of 100,000 shards take 0.1 s so, and 4 s with a check and indented.
    """
    return json.dumps(document).encode()

"""SQL for what instances say: it follows from the series (column ``h``) and the instance number (``i``).

Column ``k`` is ``h``, and ``h + i`` in one series of ten: the instances of such a series disagree.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

from tests.support.reference.job import literal

# The hash of a series is less than this prime.
HASHES = 1_000_003

Item = dict[str, Any]

CODE = "STRUCT(CodeValue VARCHAR, CodingSchemeDesignator VARCHAR, CodeMeaning VARCHAR)"

K = "CASE WHEN h % 10 = 7 THEN h + i ELSE h END"


def constant(value: Any) -> str:
    """An SQL literal of text, a number, a list or a record (a dict)."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(name)}: {constant(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(constant, value))}]"
    return "'NaN'::DOUBLE" if math.isnan(value) else repr(value)


def chosen(name: str, count: int, by: str = "k") -> str:
    """SQL for a number from 1 to ``count``: another one for another attribute, the same for the same ``by``."""
    factor = zlib.crc32(name.encode()) % (HASHES - 1) + 1
    return f"1 + ({by}) * {factor} % {HASHES} % {count}"


def pick(name: str, values: Sequence[Any], kind: str, by: str = "k") -> str:
    """SQL for one of the values, of an SQL type, of an attribute."""
    return f"({constant(values)}::{kind}[])[{chosen(name, len(values), by)}]"


def sometimes(column: str, salt: int, otherwise: str = "NULL") -> str:
    """SQL for a column that some instances, never the first of a series, leave out."""
    return f"CASE WHEN i > 0 AND (h + i + {salt}) % 7 = 0 THEN {otherwise} ELSE {column} END"


def sometimes_empty(column: str, salt: int) -> str:
    """SQL for a column that some instances leave out and some have as an empty string."""
    missing = "CASE WHEN (h + i) % 2 = 0 THEN '' END"
    return f"coalesce({sometimes(column, salt, missing)}, CASE WHEN (h + i + {salt}) % 3 = 0 THEN '' END)"


def dealt(values: str) -> str:
    """SQL for one value of a list; instances beyond the length of the list can go without."""
    return f"CASE WHEN i < len({values}) OR (h + i) % 11 > 0 THEN {values}[1 + i % len({values})] END"


def code(value: str | None, meaning: str | None, scheme: str | None = "SCT") -> Item:
    """A coded concept."""
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}

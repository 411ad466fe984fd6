"""Shards of one table share one schema, as far as it is read: a difference is named, with both types."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa

from idc_indexer.errors import IndexerError
from idc_indexer.exports.listing import some

NAMED = 3
"""Columns of a message, at most."""


def leaf_types(schema: pa.Schema) -> dict[str, str]:
    """The type of each leaf column by its path, as `leaf_paths` names it: `list<...>` if a parent repeats."""
    return {path.lower(): kind for field in schema for path, kind in _leaves(field)}


def _leaves(field: pa.Field[Any]) -> Iterator[tuple[str, str]]:
    kind, lists = field.type, 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind, lists = kind.value_type, lists + 1
    if pa.types.is_map(kind):
        below = [("key", str(kind.key_type)), ("value", str(kind.item_type))]
    elif pa.types.is_struct(kind):
        below = [pair for child in kind for pair in _leaves(child)]
    else:
        yield field.name, "list<" * lists + str(kind) + ">" * lists
        return
    for path, leaf in below:
        yield f"{field.name}.{path}", "list<" * lists + leaf + ">" * lists


def compare(
    table: str, first: tuple[str, Mapping[str, str]], others: Mapping[str, Mapping[str, str]], needed: Collection[str]
) -> str:
    """Compare shards with the first one.

    Args:
        table: how messages name it.
        first: name and leaf types of the first shard.
        others: leaf types of shards with another schema, by name.
        needed: paths of the leaf columns that are read.

    Returns:
        A warning; "" if there is no difference.

    Raises:
        IndexerError: the type of a needed leaf column differs.
    """
    odd: dict[str, list[str]] = {}
    harmless: dict[str, list[str]] = {}
    for name, types in others.items():
        different = [path for path in {**first[1], **types} if first[1].get(path) != types.get(path)]
        if read := [path for path in different if path in needed]:
            odd[name] = read
        elif different:
            harmless[name] = different
    if odd:
        name, paths = next(iter(odd.items()))
        raise IndexerError(
            f"{table}: {some(odd)} of another schema than {first[0]}: {_named(first, name, others[name], paths)}",
            "Shards of one export share one schema; leave the others out with --exclude-shard.",
        )
    if harmless:
        name, paths = next(iter(harmless.items()))
        difference = _named(first, name, others[name], paths)
        return (
            f"warning: {table}: {some(harmless)} of another schema than {first[0]}, in columns not read: {difference}"
        )
    return ""


def _named(first: tuple[str, Mapping[str, str]], name: str, types: Mapping[str, str], paths: list[str]) -> str:
    """The first columns that differ, with both types."""
    said = (
        f"{path} is {first[1].get(path, 'absent')} in {first[0]} and {types.get(path, 'absent')} in {name}"
        for path in paths
    )
    return some(said, NAMED)

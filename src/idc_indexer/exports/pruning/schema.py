"""The schema of a shard: which leaf columns it has, and the elements of its footer that say so, to be copied."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow.parquet as pq

from idc_indexer.exports.pruning.footer import leaf_paths
from idc_indexer.exports.pruning.thrift_compact import Encoded, Reader, encode

# Numbers of fields of FileMetaData and of SchemaElement.
_SCHEMA, _NAME, _CHILDREN = 2, 4, 5


class ShardSchema:
    """What the shards of a table share.

    Attributes:
        digest: tells it from other schemas.
        leaves: the leaf columns in order, as `leaf_paths` names them.
        arrow: the schema itself.
        encoded: the beginning of a footer, up to the end of its schema.
    """

    def __init__(self, footer: bytes, metadata: pq.FileMetaData) -> None:
        """Args:
        footer: of any of the shards, as it is in the file, and what it says.

        Raises:
            one of DAMAGE: a name is not UTF-8.
        """
        arrow = metadata.schema.to_arrow_schema().remove_metadata()
        self.digest = hashlib.sha256(arrow.serialize()).hexdigest()
        self.leaves = leaf_paths(arrow)
        self.arrow = arrow
        self._elements, end = _elements(footer)
        self.encoded = footer[:end]
        self._narrow: dict[frozenset[str], list[Encoded]] = {}

    def is_of(self, footer: bytes) -> bool:
        """Whether a shard with that footer has this schema, byte by byte: then its names need no check."""
        return footer.startswith(self.encoded)

    @cached_property
    def paths(self) -> list[tuple[str, ...]]:
        """Of every leaf column, the names on the way to it."""
        elements = iter(self._elements)

        def below(*above: str) -> Iterator[tuple[str, ...]]:
            element = next(elements)
            path = (*above, element.name)
            if not element.children:
                yield path
            for _ in range(element.children):
                yield from below(*path)

        return [path[1:] for path in below()]  # without the root

    @cached_property
    def encoded_paths(self) -> list[bytes]:
        """The same, as they are in the description of a column chunk."""
        return [encode(path) for path in self.paths]

    def numbers(self, leaves: Collection[str]) -> list[int]:
        """Which leaf columns have these paths, in order."""
        return [number for number, leaf in enumerate(self.leaves) if leaf in leaves]

    def narrow(self, leaves: frozenset[str]) -> list[Encoded]:
        """The elements of a schema with some of the leaf columns."""
        if leaves not in self._narrow:
            elements, wanted = iter(self._elements), (leaf in leaves for leaf in self.leaves)

            def below() -> list[Encoded]:
                element = next(elements)
                if not element.children:
                    return [Encoded(element.data)] if next(wanted) else []
                kept = [found for _ in range(element.children) if (found := below())]
                return [element.having(len(kept)), *(one for found in kept for one in found)] if kept else []

            self._narrow[leaves] = below()
        return self._narrow[leaves]


@dataclass(frozen=True)
class _Element:
    """A leaf column, or a group, whose children follow.

    Attributes:
        children: how many; 0 of a leaf column.
        data: the element as it is in the footer.
        place: where in that the number of children is.
    """

    name: str
    children: int
    data: bytes
    place: slice

    def having(self, children: int) -> Encoded:
        """The same group with another number of children."""
        return Encoded(self.data[: self.place.start] + encode(children) + self.data[self.place.stop :])


def _elements(footer: bytes) -> tuple[list[_Element], int]:
    """The elements of the schema, and where in the footer they end."""
    reader, elements = Reader(footer), []
    for field in reader.fields():
        if field != _SCHEMA:
            reader.skip()
            continue
        for _ in reader.structs():
            start, name, children, place = reader.at, "", 0, slice(0)
            for field_of_element in reader.fields():
                before = reader.at - start
                if field_of_element == _NAME:
                    name = reader.text()
                elif field_of_element == _CHILDREN:
                    children = reader.number()
                    place = slice(before, reader.at - start)
                else:
                    reader.skip()
            elements.append(_Element(name, children, footer[start : reader.at], place))
        break
    return elements, reader.at

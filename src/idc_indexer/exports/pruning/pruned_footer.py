"""A footer with the column chunks of few leaf columns, cut out of a whole footer whose schema is known.

Of 2,008 leaf columns, staging needs 132. To let pyarrow parse all, check them and free them again took half of the
processor time of a shard. A regular expression finds where each column chunk begins; pyarrow parses only the needed
ones, which are copied as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from idc_indexer.exports.pruning.schema import ShardSchema
from idc_indexer.exports.pruning.thrift_compact import Encoded, Long, Reader, encode

# Numbers of fields of FileMetaData and of RowGroup.
_SCHEMA, _ROWS, _GROUPS, _CREATED_BY = 2, 3, 4, 6
_CHUNKS = 1

_CHUNK = re.compile(
    rb"\x26[\x80-\xff]{0,9}[\x00-\x7f]"  # file_offset
    rb"\x1c\x15[\x00-\x0e]"  # meta_data, and in it the type
    rb"\x19[\x15\x25\x35\x45\x55\x65\x75\x85][\x00-\x12]+"  # encodings
    rb"\x19"  # path_in_schema, which follows
)
"""The beginning of a ColumnChunk. A match that begins elsewhere, in a text, cannot reach over one: none of its other
bytes can be the first."""


def pruned_footer(footer: bytes, schema: ShardSchema, leaves: Sequence[int]) -> bytes | None:
    """The footer that a shard would have with some of its leaf columns alone, in the same places.

    Args:
        schema: of the shard, by `is_of`.
        leaves: numbers of leaf columns, ascending.

    Returns:
        None if the footer is damaged or encoded in an uncommon way. Then pyarrow has to parse all of it.
    """
    try:
        return _pruned(footer, schema, leaves)
    except (ValueError, IndexError):
        return None


def _pruned(footer: bytes, schema: ShardSchema, leaves: Sequence[int]) -> bytes:
    chunks = list(_CHUNK.finditer(footer, len(schema.encoded)))
    reader = Reader(footer, len(schema.encoded))
    fields = reader.fields(after=_SCHEMA)
    _require(bool(leaves) and next(fields, None) == _ROWS)
    rows = reader.number()
    _require(next(fields, None) == _GROUPS)
    groups = []
    for _ in reader.structs():
        of_group, chunks = chunks[: len(schema.leaves)], chunks[len(schema.leaves) :]
        groups.append(_group(footer, reader, of_group, schema, leaves))
    _require(not chunks)  # a text that looks like a ColumnChunk
    created_by = ""
    for field in fields:
        if field >= _CREATED_BY:
            created_by = reader.text() if field == _CREATED_BY else ""
            break
        reader.skip()
    names = frozenset(schema.leaves[leaf] for leaf in leaves)
    return encode({1: 2, 2: schema.narrow(names), 3: Long(rows), 4: groups, 6: created_by})


def _group(
    footer: bytes, reader: Reader, chunks: Sequence[re.Match[bytes]], schema: ShardSchema, leaves: Sequence[int]
) -> Encoded:
    """The row group that is read next, with fewer column chunks."""
    fields = reader.fields()
    _require(next(fields, None) == _CHUNKS and reader.size() == len(chunks) == len(schema.leaves))
    starts = [chunk.start() for chunk in chunks]
    _require(starts[0] == reader.at)
    _require(all(footer.startswith(schema.encoded_paths[leaf], chunks[leaf].end()) for leaf in leaves))
    reader.at = starts[-1]
    reader.skip_struct()
    ends = [*starts[1:], end := reader.at]
    for _ in fields:
        reader.skip()
    needed = encode({_CHUNKS: [Encoded(footer[starts[leaf] : ends[leaf]]) for leaf in leaves]})
    return Encoded(needed[:-1] + footer[end : reader.at])


def _require(expected: bool) -> None:
    if not expected:
        raise ValueError

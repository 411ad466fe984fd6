"""The wide export has the shape that it promises, and what nothing reads changes no index."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom.datadict import tag_for_keyword

from idc_indexer import documents
from idc_indexer.exports import SAMPLE
from tests.conftest import Build, contents
from tests.support.wide_export import LAST, OWN, leaves, widen

LEAVES = 900


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled sample, with a wide dicom_all."""
    root = tmp_path_factory.mktemp("wide") / "export"
    shutil.copytree(documents.bundled(SAMPLE), root)
    folder = root / "idc_v25" / "dicom_all"
    narrow = folder.rename(root.parent / "narrow")
    widen(narrow, folder, LEAVES)
    return root


def shards(export: Path) -> list[Path]:
    return sorted((export / "idc_v25" / "dicom_all").iterdir())


def test_shape(wide: Path) -> None:
    for shard in shards(wide):
        metadata = pq.read_metadata(shard)
        assert LEAVES <= metadata.num_columns < LEAVES + 100
        assert metadata.num_row_groups == 1
        assert not metadata.metadata
        assert {metadata.row_group(0).column(place).compression for place in range(LEAVES)} == {"ZSTD"}


def test_columns_are_in_the_order_of_the_public_table(wide: Path) -> None:
    names = pq.read_schema(shards(wide)[0]).names
    own, last = len(OWN), len(LAST)
    assert names[:own] == list(OWN)
    assert names[-last:] == list(LAST)
    tags = [tag_for_keyword(name) for name in names[own:-last]]
    assert tags == sorted(tags, key=lambda tag: tag or 0)
    assert None not in tags


def test_columns_that_are_read_can_come_first(wide: Path, tmp_path: Path) -> None:
    narrow = wide.parent / "narrow"
    widen(narrow, tmp_path / "wide", LEAVES, read_first=True)
    for shard in shards(wide):
        names = pq.read_schema(narrow / shard.name).names
        one, other = pq.read_metadata(tmp_path / "wide" / shard.name), pq.read_metadata(shard)
        assert one.schema.names != other.schema.names
        assert one.schema.to_arrow_schema().names[: len(names)] == names
        # The same chunks in another order: that the same narrow export gives the same columns.
        assert chunks(one) == chunks(other)


def chunks(metadata: pq.FileMetaData) -> Mapping[str, object]:
    """Bytes and extremes of the column chunks of a shard with one row group."""
    group = metadata.row_group(0)
    found = {}
    for column in (group.column(place) for place in range(group.num_columns)):
        statistics = column.statistics
        extremes = (statistics.min, statistics.max) if statistics and statistics.has_min_max else None
        found[column.path_in_schema] = (column.total_compressed_size, column.has_dictionary_page, extremes)
    return found


def test_records_have_fields_that_nothing_reads(wide: Path) -> None:
    before, after = (pq.read_schema(path) for path in (next((wide.parent / "narrow").iterdir()), shards(wide)[0]))
    assert leaves(after.field("SegmentSequence").type) > leaves(before.field("SegmentSequence").type) + 3


def test_every_index_is_the_same_from_it(wide: Path, sample_release: Path, build: Build, out: Path) -> None:
    result = build(wide)
    assert result.exit_code == 0, result.stderr
    built, expected = contents(out), contents(sample_release)
    for each in (built, expected):
        del each["manifest.json"]  # says where the rows come from
    assert built == expected

"""Every index has the columns and types that GoogleSQL itself finds in its query."""

from __future__ import annotations

import pytest

from idc_indexer.catalog import Catalog
from idc_indexer.schema.arrow import arrow_schema
from idc_indexer.schema.source_tables import PROJECT
from tests.emulators.googlesql import GoogleSQL
from tests.support.strategies import columns_read

CATALOG = Catalog()


@pytest.mark.parametrize("release", [23, 24, 25])
@pytest.mark.parametrize("name", CATALOG.indices)
def test_columns_are_named_and_typed_as_the_schema_says(name: str, release: int) -> None:
    index = CATALOG.indices[name].for_release(release)
    tables = {f"{PROJECT}.{t}": arrow_schema(c) for t, c in columns_read(index.statement.leaves).items()}
    expected = [(column.name, column.googlesql) for column in index.schema.columns]
    assert GoogleSQL.get().analyze(index.statement.text, tables) == expected

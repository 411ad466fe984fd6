"""The example queries of the data dictionary run on the sample, and find something."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from idc_indexer.catalog import Catalog
from idc_indexer.schema.arrow import file_schema

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ABSENT = ("gdc_idc_mapping", "series_history")
"""Tables that the sample release does not have: one comes from the network, one is built on request."""


def test_every_index_has_examples() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == set(Catalog().schemas)
    for path in EXAMPLES.iterdir():
        for example in path.read_text(encoding="utf-8").strip().split("\n\n"):
            assert example.startswith("-- ")
            assert example.endswith(";")


@pytest.mark.duckdb
@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.stem)
def test_examples_find_something(path: Path, sample_release: Path) -> None:
    with duckdb.connect() as connection:
        for name, schema in Catalog().schemas.items():
            file = sample_release / f"{name}.parquet"
            if file.exists():
                connection.read_parquet(str(file)).create_view(name)
            else:  # see ABSENT
                connection.from_arrow(file_schema(schema.columns).empty_table()).create(name)
        statements = connection.extract_statements(path.read_text(encoding="utf-8"))
        assert statements
        for statement in statements:
            found = connection.execute(statement).fetchall()
            assert found or path.stem in ABSENT
            assert connection.execute(statement).fetchall() == found

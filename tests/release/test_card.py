"""The card of a mirror: metadata that the Hub accepts, tables that exist, facts that are those of the release."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from idc_indexer.release.descriptions import card, describe, dictionary
from idc_indexer.release.descriptions.description import Description, percent
from idc_indexer.release.manifest import PUBLISHED, IndexEntry, Release
from tests.emulators.hub import card_problems


@pytest.fixture(scope="module")
def description(sample_release: Path) -> Description:
    return describe(Release.open(sample_release), PUBLISHED)


def metadata(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_every_table_is_a_configuration_whose_file_exists(description: Description, sample_release: Path) -> None:
    text = card.text(description, "idc/indices", None)
    assert card_problems(text) == []
    found = metadata(text)
    files = {config["config_name"]: config["data_files"] for config in found["configs"]}
    assert files == {path.stem: [{"split": "train", "path": path.name}] for path in sample_release.glob("*.parquet")}
    assert [config["config_name"] for config in found["configs"] if config.get("default")] == ["idc_index"]
    rows = sum(pq.read_metadata(path).num_rows for path in sample_release.glob("*.parquet"))
    assert 1_000 <= rows < 10_000
    assert found["size_categories"] == ["1K<n<10K"]
    assert found["license"] == ["cc-by-4.0", "cc-by-3.0", "cc-by-nc-4.0", "cc-by-nc-3.0", "other"]


def test_the_text_has_the_facts_and_nothing_to_fill_in(description: Description, sample_release: Path) -> None:
    text = card.text(description, "idc/indices", None)
    release = description.release
    for fact in (
        release.manifest_sha256,
        description.address,
        description.date,
        "idc/indices@25.0.0/idc_index.parquet",
    ):
        assert fact in text
    series = pq.read_table(sample_release / "idc_index.parquet", columns=["license_short_name"])["license_short_name"]
    for name, count in Counter(series.to_pylist()).items():
        assert f"| {name} | {count} | {100 * count / len(series):.1f} % |" in text
    assert text.endswith(dictionary.text(description).partition("| table |")[2])
    assert f"ATTACH '{description.address}idc.duckdb' AS idc;" in text
    assert not re.search(r"[{}]{2}|TODO|None|More Information Needed", text.partition("## Tables")[0])


def test_a_release_without_them_has_no_empty_sections(description: Description) -> None:
    release = replace(description.release, descriptions=())
    text = card.text(replace(description, release=release, licenses=(), dates={}), "idc/indices", None)
    assert card_problems(text) == []
    assert "license" not in metadata(text)
    for absent in ("ATTACH", "## Licences", "## Changes", " of \n"):
        assert absent not in text


def test_changes_since_the_prior_release(description: Description) -> None:
    release = description.release
    less, more, *others = release.indices
    prior = replace(
        release, release_version="24.0.0", indices=(replace(less, rows=7), IndexEntry("gone", 1234), *others)
    )
    text = card.text(description, "idc/indices", prior)
    changed = text.partition("## Changes since 24.0.0\n\n")[2].partition("\n\n")[0].splitlines()
    assert changed == [
        "| table | rows in 24.0.0 | rows in 25.0.0 |",
        "|---|---|---|",
        *sorted([f"| {less.name} | 7 | {less.rows} |", f"| {more.name} | - | {more.rows} |", "| gone | 1,234 | - |"]),
    ]
    same = card.text(description, "idc/indices", replace(release, release_version="24.0.0"))
    assert "All tables have as many rows as in 24.0.0." in same


@pytest.mark.unit
@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (5_000_000, "1M<n<10M")],
)
def test_size_categories(rows: int, category: str) -> None:
    assert card._size_category(rows) == category


@pytest.mark.unit
def test_a_small_share_is_not_shown_as_nothing() -> None:
    assert percent(1, 100_000) == "< 0.1 %"
    assert percent(0, 3) == "0.0 %"
    assert percent(2, 3) == "66.7 %"

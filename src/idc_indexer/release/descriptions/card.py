"""`README.md` of a mirror on the Hugging Face Hub: what its dataset viewer and `datasets` read, and what people read.

The metadata in front are YAML, in which every JSON text is one too.
https://huggingface.co/docs/hub/datasets-cards, https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

from dataclasses import dataclass

from idc_indexer.release.about import ABOUT, CITATION, HOMEPAGE, KEYWORDS, TITLE
from idc_indexer.release.descriptions.description import Description, LicenseShare, percent
from idc_indexer.release.descriptions.markdown import render
from idc_indexer.release.manifest import DUCKDB_FILE, Release

NAME = "README.md"


@dataclass(frozen=True)
class RowChange:
    """A table whose number of rows differs between two releases, with both numbers, or `-` where it does not exist."""

    name: str
    before: str
    after: str


def text(description: Description, dataset: str, prior: Release | None) -> str:
    """The content of the card.

    Args:
        dataset: `OWNER/NAME`.
        prior: the release to compare with; without one, the card has no changes.
    """
    release = description.release
    tables = description.tables
    series = sum(license.series for license in description.licenses)
    return render(
        "card.md.jinja",
        description,
        dataset=dataset,
        pretty_name=TITLE,
        about=ABOUT,
        homepage=HOMEPAGE,
        citation=CITATION,
        tags=KEYWORDS,
        license_ids=list(dict.fromkeys(_identifier(license) for license in description.licenses)),
        shares=[(license, percent(license.series, series)) for license in description.licenses],
        size_category=_size_category(sum(table.entry.rows for table in tables)),
        main_table=description.main_table,
        manifest_sha256=release.manifest_sha256,
        duckdb_file=DUCKDB_FILE if DUCKDB_FILE in {file.name for file in release.descriptions} else "",
        prior=prior.release_version if prior else "",
        changes=changes(prior, release) if prior else None,
    )


def changes(prior: Release, release: Release) -> tuple[RowChange, ...]:
    """The tables that have another number of rows, that are new, or that are gone, by name."""
    before, after = ({entry.name: f"{entry.rows:,}" for entry in of.entries} for of in (prior, release))
    return tuple(
        RowChange(name, before.get(name, "-"), after.get(name, "-"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _identifier(license: LicenseShare) -> str:
    """How the Hub calls a licence: it knows those of Creative Commons, such as cc-by-4.0."""
    return license.name.lower().replace(" ", "-") if license.url else "other"


def _size_category(rows: int) -> str:
    """The Hub's word for a number of rows, such as `10K<n<100K`."""
    limits = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    digits = max(len(str(rows)) - 4, -1)  # -1 below 1,000
    return f"n<{limits[0]}" if digits < 0 else f"{limits[digits]}<n<{limits[digits + 1]}"

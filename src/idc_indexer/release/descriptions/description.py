"""What a description of a release needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.manifest import FileEntry, IndexEntry, Release
from idc_indexer.schema.table import Schema

SERIES_MB = "coalesce(sum(TRY_CAST(series_size_MB AS DECIMAL(18, 6))), 0)"
"""SQL for the size of series, in MB (10^6 bytes). A sum of floats would depend on the order of the rows."""
_CREATIVE_COMMONS = re.compile(r"CC (BY(?:-NC)?(?:-SA|-ND)?) ([34]\.0)")
_CC0 = re.compile(r"CC0[ -]1\.0")


@dataclass(frozen=True)
class TableDescription:
    """A table of a release.

    Attributes:
        url: public address of the Parquet in the folder of the version, which never changes.
    """

    entry: IndexEntry
    schema: Schema
    url: str

    @property
    def name(self) -> str:
        """Such as `idc_index`."""
        return self.entry.name

    @property
    def parquet(self) -> FileEntry:
        """The file with the rows."""
        return self.entry.files[0]


@dataclass(frozen=True)
class LicenseShare:
    """A licence, how many series have it, and their size in TB (10^12 bytes)."""

    name: str
    series: int
    tb: float

    @property
    def url(self) -> str:
        """The address of its text; empty unless it is of Creative Commons."""
        if _CC0.fullmatch(self.name):
            return "https://creativecommons.org/publicdomain/zero/1.0/"
        found = _CREATIVE_COMMONS.fullmatch(self.name)
        return f"https://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/" if found else ""


@dataclass(frozen=True)
class Description:
    """A release, for those who describe it.

    Attributes:
        address: public address of the folder of the version, with a slash at the end.
        dates: when IDC published each of its releases, as YYYY-MM-DD, by number; empty if the release does not say.
        licenses: empty if idc_index is not in the release.
    """

    release: Release
    address: str
    dates: Mapping[int, str]
    tables: tuple[TableDescription, ...]
    licenses: tuple[LicenseShare, ...]

    @property
    def date(self) -> str:
        """When IDC published the release that this one is made of; empty if unknown."""
        return self.dates.get(self.release.idc_version, "")

    @property
    def main_table(self) -> TableDescription:
        """The table that examples read: idc_index, or else the first."""
        return next((table for table in self.tables if table.name == IDC_INDEX), self.tables[0])


def terabytes(mb: Decimal) -> float:
    """MB in TB (10^12 bytes)."""
    return round(float(mb / 1_000_000), 12)


def percent(part: float, whole: float) -> str:
    """A share, such as `12.5 %`; empty if there is nothing of which it could be one."""
    if not whole:
        return ""
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.1 or not part else "< 0.1 %"  # noqa: PLR2004 -- the last digit

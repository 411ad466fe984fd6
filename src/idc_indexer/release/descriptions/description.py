"""What a description of a release needs."""

from __future__ import annotations

from dataclasses import dataclass

from idc_indexer.release.manifest import FileEntry, IndexEntry, Release
from idc_indexer.schema.table import Schema

HOMEPAGE = "https://imaging.datacommons.cancer.gov"
ABOUT = (
    "Tables by which to search the DICOM data of NCI Imaging Data Commons: radiology and pathology images of cancer, "
    "segmentations, annotations and structure sets. They hold the metadata of each series, its licence and the address "
    "of its files, not the images."
)
KEYWORDS = ("cancer imaging", "DICOM", "radiology", "digital pathology", "segmentation", "metadata")
CITATION = (
    "Fedorov, A., Longabaugh, W. J. R., Pot, D., et al.: National Cancer Institute Imaging Data Commons: Toward "
    "Transparency, Reproducibility, and Scalability in Imaging Artificial Intelligence. RadioGraphics 43 (12), 2023. "
    "https://doi.org/10.1148/rg.230180"
)


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


@dataclass(frozen=True)
class Description:
    """A release, for those who describe it.

    Attributes:
        address: public address of the folder of the version, with a slash at the end.
        date: when IDC published its release, as YYYY-MM-DD; empty if the release does not hold it.
        licenses: empty if idc_index is not in the release.
    """

    release: Release
    address: str
    date: str
    tables: tuple[TableDescription, ...]
    licenses: tuple[LicenseShare, ...]

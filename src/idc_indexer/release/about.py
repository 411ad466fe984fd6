"""What every description says of the tables, whichever release or store it describes."""

from __future__ import annotations

TITLE = "Indices of NCI Imaging Data Commons"
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

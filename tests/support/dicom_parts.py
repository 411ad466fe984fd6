"""What the DICOM objects that are made for tests are put together from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag

Datasets = Iterator[Dataset]


def made_uid(*names: object) -> uid.UID:
    return uid.generate_uid(entropy_srcs=[str(name) for name in names])


def sop_instance_uid(series: str, number: int) -> uid.UID:
    """SOP Instance UID of an object that is made here."""
    return made_uid(series, number)


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        if isinstance(value, bytes) and dictionary_VR(keyword) not in ("OB", "OW"):
            # As it will be in the file, padding, forbidden characters and all.
            tag = Tag(tag_for_keyword(keyword) or 0)
            dataset[tag] = RawDataElement(tag, dictionary_VR(keyword), len(value), value, 0, False, True)
        else:
            setattr(dataset, keyword, value)
    return dataset


def code(scheme: str, value: str, meaning: str, **others: Any) -> list[Dataset]:
    """A code sequence of one item (PS3.3, section 8)."""
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **others)]


def made_object(kind: uid.UID, modality: str, series: str, number: int = 1, **attributes: Any) -> Dataset:
    """What all objects have: a patient for each modality, with one study; text in UTF-8 unless said otherwise."""
    common: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": kind,
        "SOPInstanceUID": sop_instance_uid(series, number),
        "SeriesInstanceUID": made_uid(series),
        "StudyInstanceUID": made_uid("study", modality),
        "FrameOfReferenceUID": made_uid("frame", modality),
        "PatientID": f"made-{modality}",
        "PatientName": "Test^Jürgen",
        "PatientAge": "",
        "PatientSex": "O",
        "StudyDate": "20260102",
        "StudyTime": "101112.5",
        "StudyDescription": "Objects to test on",
        "SeriesDate": "20260103",
        "Modality": modality,
        "Manufacturer": "Nobody",
        "ManufacturerModelName": "Model 1",
        "SeriesNumber": "7",
        "InstanceNumber": str(number),
        "AccessionNumber": "",
    }
    dataset = item(**common | attributes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    private = dataset.private_block(0x0011, "NOBODY 1.0", create=True)
    private.add_new(0x01, "LO", "private text")
    private.add_new(0x02, "SQ", [item(SeriesDescription="in a private sequence")])
    return dataset


def pixels(rows: int = 4, columns: int = 4) -> dict[str, Any]:
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": bytes(rows * columns),
    }


KEPT = {
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
}


def contradicting(dataset: Dataset, series: str) -> Datasets:
    """Two instances that make a series of their own, of which the second has more or larger of everything."""
    for number in (1, 2):
        made = copy.deepcopy(dataset)
        made.SeriesInstanceUID = made_uid(series)
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid(series, number)
        if number == 2:
            _enlarge(made)
            made.PixelData = bytes(made.Rows * made.Columns)
        yield made


def _enlarge(dataset: Dataset) -> None:
    for element in dataset:
        if element.tag.is_private or element.keyword in KEPT or element.is_empty:
            continue
        if element.VR == "SQ":
            for item in element.value:
                _enlarge(item)
            continue
        values = element.value if element.VM > 1 else [element.value]
        if element.VR in ("DS", "IS"):
            larger = [f"{float(value) + 1:g}" for value in values]  # what was an integer stays one
        elif element.VR in ("FD", "US", "UL"):
            larger = [value + 1 for value in values]
        elif element.VR in ("CS", "LO", "SH"):
            larger = [f"{value}X" for value in values]
        elif element.VR == "UI":
            larger = [f"{value}.1" for value in values]
        else:
            larger = {"AS": ["099Y"], "DA": ["20991231"]}.get(element.VR, values)
        element.value = larger if element.VM > 1 else larger[0]


AXIAL = [1, 0, 0, 0, 1, 0]


def place(position: list[Any], orientation: list[Any] = AXIAL, spacing: Any = (0.5, 0.7)) -> dict[str, Any]:
    return {
        "ImagePositionPatient": position,
        "ImageOrientationPatient": orientation,
        "PixelSpacing": spacing if isinstance(spacing, bytes) else list(spacing),
    }

"""Regions of images: segmentations (PS3.3, section A.51) and RT structure sets (section A.19)."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset, uid

from tests.support.dicom_parts import Datasets, code, item, made_object, made_uid, pixels, sop_instance_uid


def _segment(number: int, *kind: str, **attributes: Any) -> Dataset:
    """PS3.3, table C.8.20-4."""
    given = {
        "SegmentNumber": number,
        "SegmentLabel": f"Segment {number}",
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "TotalSegmentator",
        "SegmentedPropertyCategoryCodeSequence": code("SCT", "123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": code("SCT", *kind),
    }
    return item(**given | attributes)


def _image_reference(series: str, number: int) -> list[Dataset]:
    return [
        item(ReferencedSOPClassUID=uid.CTImageStorage, ReferencedSOPInstanceUID=sop_instance_uid(series, number)),
        item(ReferencedSOPClassUID=uid.CTImageStorage, ReferencedSOPInstanceUID=sop_instance_uid("pt-static", 1)),
    ]


def _series_reference(series: str, number: int) -> list[Dataset]:
    # The series named here need not be the one that the image is in; what counts is the image.
    return [item(SeriesInstanceUID=made_uid("elsewhere"), ReferencedInstanceSequence=_image_reference(series, number))]


def segmentations() -> Datasets:
    kind = uid.SegmentationStorage
    lung, lesion = ("39607008", "Lung"), ("52988006", "Lesion")
    chest = {"AnatomicRegionSequence": code("SCT", "51185008", "Chest")}
    by_hand = {"SegmentAlgorithmType": "MANUAL", "SegmentAlgorithmName": ""}
    yield made_object(
        kind,
        "SEG",
        "seg-of-ct",
        1,
        SegmentationType="BINARY",
        SegmentSequence=[
            _segment(1, *lung, **chest, SegmentAlgorithmName=["TotalSegmentator", "v2"]),
            _segment(2, *lesion, **by_hand, AnatomicRegionSequence=code("SCT", "39607008", "Lung, linke")),
            _segment(
                3,
                *lesion,
                SegmentedPropertyCategoryCodeSequence=code("SCT", "49755003", "Morphologic Abnormality"),
                AnatomicRegionSequence=[],
            ),
        ],
        ReferencedSeriesSequence=_series_reference("ct-regular", 2),
        SourceImageSequence=_image_reference("ct-oblique", 1),
        **pixels(),
    )
    # The other instance numbers anew, and names no image by series.
    yield made_object(
        kind,
        "SEG",
        "seg-of-ct",
        2,
        SegmentationType="FRACTIONAL",
        SegmentSequence=[_segment(1, *lesion, SegmentAlgorithmName="nnU-Net", **chest)],
        ReferencedSeriesSequence=[],
        ReferencedImageSequence=_image_reference("ct-gap", 2),
        **pixels(),
    )
    yield made_object(
        kind,
        "SEG",
        "seg-by-source",
        SegmentationType="BINARY",
        SegmentSequence=[_segment(7, *lung, **by_hand)],
        ReferencedSeriesSequence=[item(SeriesInstanceUID=made_uid("ct-gap"))],
        ReferencedImageSequence=[item(ReferencedSOPClassUID=uid.CTImageStorage)],
        SourceImageSequence=_image_reference("mr-diffusion", 0),
        **pixels(),
    )
    # IDC does not have the image that is named first; the next place is not asked.
    yield made_object(
        kind,
        "SEG",
        "seg-astray",
        SegmentationType="BINARY",
        SegmentSequence=[],
        ReferencedSeriesSequence=_series_reference("not in IDC", 1),
        SourceImageSequence=_image_reference("ct-regular", 1),
        **pixels(),
    )
    labels = [_segment(number, str(number), name) for number, name in enumerate(["Background", "Liver", "Kidney"])]
    yield made_object(
        uid.UID("1.2.840.10008.5.1.4.1.1.66.7"),
        "SEG",
        "seg-labels",
        SegmentationType="LABELMAP",
        SegmentSequence=labels,
        ReferencedImageSequence=_image_reference("ct-oblique", 2),
        **pixels(),
    )


def structure_sets() -> Datasets:
    kind = uid.RTStructureSetStorage

    def roi(number: int, name: str, algorithm: str = "MANUAL") -> Dataset:
        return item(
            ROINumber=str(number),
            ReferencedFrameOfReferenceUID=made_uid("frame", "CT"),
            ROIName=name,
            ROIGenerationAlgorithm=algorithm,
        )

    def observation(number: int, of: int, interpreted: str) -> Dataset:
        return item(
            ObservationNumber=str(number),
            ReferencedROINumber=str(of),
            RTROIInterpretedType=interpreted,
            ROIInterpreter="",
        )

    def drawn_on(*series: str) -> list[Dataset]:
        referenced = [
            item(SeriesInstanceUID=made_uid(name), ContourImageSequence=_image_reference(name, 1)) for name in series
        ]
        studies = [item(ReferencedSOPInstanceUID=made_uid("study", "CT"), RTReferencedSeriesSequence=referenced)]
        empty = item(FrameOfReferenceUID=made_uid("frame", "MR"), RTReferencedStudySequence=[])
        return [empty, item(FrameOfReferenceUID=made_uid("frame", "CT"), RTReferencedStudySequence=studies)]

    yield made_object(
        kind,
        "RTSTRUCT",
        "rt",
        1,
        SpecificCharacterSet="ISO_IR 100",
        StructureSetLabel="Plan",
        StructureSetROISequence=[roi(3, "Rückenmark"), roi(1, "PTV"), roi(2, "GTV ", "SEMIAUTOMATIC")],
        # In another order; one of a region that is not there, one without a type, two of one region.
        RTROIObservationsSequence=[
            observation(1, 9, "MARKER"),
            observation(2, 2, "GTV"),
            observation(3, 1, ""),
            observation(4, 3, "ORGAN"),
            observation(5, 3, "AVOIDANCE"),
        ],
        ReferencedFrameOfReferenceSequence=drawn_on("ct-regular", "ct-gap"),
    )
    # The numbers of one instance mean nothing in the other: its 9 is not the 9 above.
    yield made_object(
        kind,
        "RTSTRUCT",
        "rt",
        2,
        StructureSetROISequence=[roi(9, "PTV", ""), roi(1, "肝臓", "AUTOMATIC")],
        RTROIObservationsSequence=[observation(1, 3, "SUPPORT"), observation(2, 1, "ORGAN")],
        ReferencedFrameOfReferenceSequence=[],
    )
    yield made_object(kind, "RTSTRUCT", "rt-empty", StructureSetROISequence=[], RTROIObservationsSequence=[])

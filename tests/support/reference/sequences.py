"""SQL for the attributes of segmentations, structure sets and PET images that hold items of attributes.

Segmentations, annotations and structure sets refer to a series and an instance of the export (the columns
``target``, ``target_prefix`` and ``target_count``), but for a few, which refer to what is not there.
"""

from __future__ import annotations

from tests.support.reference.slides import BREAST, KIDNEY, LUNG, annotation_groups, slides
from tests.support.reference.values import CODE, Item, code, pick

# --- Segmentations ------------------------------------------------------------------------------------------

SEGMENT = f"""STRUCT(
    SegmentNumber BIGINT, SegmentAlgorithmType VARCHAR, SegmentAlgorithmName VARCHAR[],
    SegmentedPropertyCategoryCodeSequence {CODE}[], SegmentedPropertyTypeCodeSequence {CODE}[],
    AnatomicRegionSequence {CODE}[])"""
TISSUE = code("85756007", "Tissue")
ORGAN = code("123037004", "Anatomical Structure")
ABNORMAL = code("49755003", "Morphologically Altered Structure")
LESION = code("52988006", "Lesion: primary, or metastasis")
LIVER = code("10200004", "Liver")
NODULE = code("27925004", "Nodule")


def segment(
    number: int | None,
    algorithm: tuple[str | None, list[str] | None],
    category: Item | None,
    kind: Item | None,
    region: Item | None,
) -> Item:
    """A segment; ``algorithm`` is type and name."""
    return {
        "SegmentNumber": number,
        "SegmentAlgorithmType": algorithm[0],
        "SegmentAlgorithmName": algorithm[1],
        "SegmentedPropertyCategoryCodeSequence": [category] if category else [],
        "SegmentedPropertyTypeCodeSequence": [kind] if kind else None,
        "AnatomicRegionSequence": [region] if region else None,
    }


NETWORK = ("AUTOMATIC", ["TotalSegmentator"])
HELPED = ("SEMIAUTOMATIC", ["Grow, then correct", "a second name"])
BY_HAND = ("MANUAL", None)
UNNAMED: tuple[str, list[str]] = ("AUTOMATIC", [])
SEGMENTS = [
    [segment(1, NETWORK, ORGAN, LIVER, None)],
    [
        segment(number, NETWORK, ORGAN, organ, None)
        for number, organ in enumerate((LIVER, KIDNEY, LUNG, code("69536005", "Kopf (Schädel)")), start=1)
    ],
    [segment(1, BY_HAND, ABNORMAL, NODULE, LUNG), segment(2, HELPED, ABNORMAL, LESION, LUNG)],
    [segment(1, HELPED, TISSUE, LESION, BREAST), segment(1, UNNAMED, TISSUE, LESION, BREAST)],
    [segment(1, (None, [""]), None, None, KIDNEY), segment(None, BY_HAND, TISSUE, None, None)],
    [segment(3, ("", ["Réseau: v2"]), code("1", None), code("2", ""), LIVER)],
    [],
    None,
]
TYPES = ["BINARY", "BINARY", "FRACTIONAL", "LABELMAP", None]

REFERENCE = "STRUCT(ReferencedSOPClassUID VARCHAR, ReferencedSOPInstanceUID VARCHAR)[]"


def references() -> dict[str, str]:
    """SQL for the images that segmentations and annotations refer to, in any of three places, or in two of them."""
    image = "CASE WHEN target IS NULL OR h % 17 = 5 THEN '2.25.1' ELSE target_prefix || (h + i) % target_count END"
    series = "CASE WHEN target IS NULL OR h % 17 = 5 THEN '2.25.0' ELSE target END"
    item = f"[{{'ReferencedSOPClassUID': '1.2.840.10008.5.1.4.1.1.2', 'ReferencedSOPInstanceUID': {image}}}]"
    elsewhere = "[{'ReferencedSOPClassUID': NULL, 'ReferencedSOPInstanceUID': '2.25.2'}]"
    kind = f"STRUCT(SeriesInstanceUID VARCHAR, ReferencedInstanceSequence {REFERENCE})[]"
    return {
        "ReferencedSeriesSequence": f"""
            CASE WHEN NOT (seg OR ann) THEN NULL
                WHEN ann THEN CASE WHEN h % 11 > 0
                    THEN [{{'SeriesInstanceUID': {series}, 'ReferencedInstanceSequence': {item}}}] END
                WHEN h % 8 < 4 THEN [{{'SeriesInstanceUID': {series}, 'ReferencedInstanceSequence': {item}}}]
                WHEN h % 8 = 5 THEN [{{'SeriesInstanceUID': {series}, 'ReferencedInstanceSequence': []}}]
                WHEN h % 8 = 6 THEN []
            END::{kind}""",
        "ReferencedImageSequence": f"""
            CASE WHEN NOT seg THEN NULL
                WHEN h % 8 IN (4, 5) THEN {item}
                WHEN h % 8 = 3 THEN {elsewhere}
                WHEN h % 8 = 6 THEN []
            END::{REFERENCE}""",
        "SourceImageSequence": f"""
            CASE WHEN NOT seg THEN NULL WHEN h % 8 = 6 THEN {item} WHEN h % 8 < 6 THEN {elsewhere} END::{REFERENCE}""",
    }


def segmentations() -> dict[str, str]:
    """SQL for the columns of segmentations."""
    return {
        "SegmentationType": f"CASE WHEN seg THEN {pick('SegmentationType', TYPES, 'VARCHAR')} END",
        "SegmentSequence": f"CASE WHEN seg THEN {pick('SegmentSequence', SEGMENTS, f'{SEGMENT}[]', 'k + i')} END",
    }


# --- Structure sets -----------------------------------------------------------------------------------------

ROI = "STRUCT(ROINumber VARCHAR, ROIName VARCHAR, ROIGenerationAlgorithm VARCHAR)"
OBSERVATION = "STRUCT(ReferencedROINumber VARCHAR, RTROIInterpretedType VARCHAR)"
FRAME = """STRUCT(
    FrameOfReferenceUID VARCHAR,
    RTReferencedStudySequence STRUCT(RTReferencedSeriesSequence STRUCT(SeriesInstanceUID VARCHAR)[])[])"""
# Number, name, algorithm, interpreted type; type ... when the region is not observed.
REGIONS: list[list[tuple[str | None, ...]]] = [
    [
        ("1", "GTV-1", "MANUAL", "GTV"),
        ("2", "Lung_L", "AUTOMATIC", "ORGAN"),
        ("3", "BODY", "SEMIAUTOMATIC", "EXTERNAL"),
    ],
    [("1", "Neoplasm, Primary", "MANUAL", "")],
    [("7", "PTV 60Gy: boost", "", "PTV"), ("7", "Ösophagus", None, None), ("8", "PTV 60Gy: boost", "MANUAL", "PTV")],
    [("0", "", None, "..."), (None, None, "MANUAL", "GTV")],
    [],
]


def structures() -> dict[str, str]:
    """SQL for the columns of structure sets."""
    regions = [
        [{"ROINumber": number, "ROIName": name, "ROIGenerationAlgorithm": how} for number, name, how, _ in regions]
        for regions in REGIONS
    ]
    observations = [
        [
            {"ReferencedROINumber": number, "RTROIInterpretedType": kind}
            for number, _, _, kind in regions
            if kind != "..."
        ]
        for regions in REGIONS
    ]
    unknown = "CASE WHEN target IS NULL OR h % 17 = 5 THEN '2.25.0' ELSE target END"
    item = f"[{{'RTReferencedSeriesSequence': [{{'SeriesInstanceUID': {unknown}}}]}}]"
    return {
        # The same attribute name for both: the observations are of the regions beside them.
        "StructureSetROISequence": f"CASE WHEN rt THEN {pick('ROI', [*regions, None], f'{ROI}[]')} END",
        "RTROIObservationsSequence": f"""
            CASE WHEN rt THEN {pick("ROI", [*observations, None], f"{OBSERVATION}[]")} END""",
        "ReferencedFrameOfReferenceSequence": f"""
            CASE WHEN NOT rt THEN NULL
                WHEN h % 9 = 0 THEN []
                WHEN h % 9 = 1 THEN [{{'FrameOfReferenceUID': '2.25.3', 'RTReferencedStudySequence': NULL}}]
                ELSE [{{'FrameOfReferenceUID': '2.25.3', 'RTReferencedStudySequence': {item}}}]
            END::{FRAME}[]""",
    }


# --- PET ----------------------------------------------------------------------------------------------------

# BigQuery marks the times of its exports as UTC, which TIMETZ does.
INJECTION = f"""STRUCT(
    RadionuclideCodeSequence {CODE}[], RadionuclideTotalDose VARCHAR, RadiopharmaceuticalStartTime TIMETZ,
    Radiopharmaceutical VARCHAR)"""
FLUORINE = code("77004003", "^18^Fluorine")
GALLIUM = code("10361001", "^68^Gallium: from a generator")


def injection(nuclide: Item | None, dose: str | None, time: str | None, tracer: str | None) -> Item:
    """What was injected; ``time`` is ``HH:MM:SS[.ffffff]``."""
    return {
        "RadionuclideCodeSequence": [nuclide] if nuclide else [],
        "RadionuclideTotalDose": dose,
        "RadiopharmaceuticalStartTime": time and f"{time}+00",
        "Radiopharmaceutical": tracer,
    }


INJECTIONS = [
    [injection(FLUORINE, "370000000", "08:15:00", "FDG -- fluorodeoxyglucose")],
    [injection(FLUORINE, "3.7E+08", "23:59:59.5", "Fluorodeoxyglucose")],
    [injection(FLUORINE, "410.000000", "10:11:12.123456", "18F-FDG, µCi: 11")],
    [injection(GALLIUM, "", "00:00:00", "Ga-68 DOTATATE"), injection(FLUORINE, "1", "09:00:00", "the second")],
    [injection(None, "high", None, "")],
    [injection(code("1", None), None, None, None)],
    [],
    None,
]


def sequences() -> dict[str, str]:
    """SQL for the columns of this module, by name."""
    return {
        **slides(),
        **segmentations(),
        **references(),
        **annotation_groups(),
        **structures(),
        "RadiopharmaceuticalInformationSequence": f"""
            CASE WHEN pt THEN {pick("RadiopharmaceuticalInformationSequence", INJECTIONS, f"{INJECTION}[]")} END""",
    }


# --- What is referred to ------------------------------------------------------------------------------------

# For every series that refers to images, one of the same study, or else one from anywhere; slides for annotations.
# Columns SeriesInstanceUID, target, target_prefix, target_count.
TARGETS = """
    referring AS (
        SELECT SeriesInstanceUID, StudyInstanceUID, h, ann FROM kept WHERE seg OR ann OR rt
    ),
    images AS (
        SELECT SeriesInstanceUID, StudyInstanceUID, sop_prefix, instanceCount, sm,
            row_number() OVER (PARTITION BY sm ORDER BY SeriesInstanceUID) - 1 AS place,
            count(*) OVER (PARTITION BY sm) AS places
        FROM kept WHERE sm OR slice
    ),
    same_study AS (
        SELECT referring.SeriesInstanceUID, min(images.SeriesInstanceUID) AS target
        FROM referring JOIN images ON images.StudyInstanceUID = referring.StudyInstanceUID AND (sm OR NOT ann)
        GROUP BY referring.SeriesInstanceUID
    ),
    -- Materialized, for DuckDB would join images by sm alone, which is every one with every other.
    wanted AS MATERIALIZED (
        SELECT referring.SeriesInstanceUID, ann, h % places AS place
        FROM referring JOIN (SELECT sm, max(places) AS places FROM images GROUP BY sm) AS sizes ON sizes.sm = ann
    ),
    anywhere AS (
        SELECT wanted.SeriesInstanceUID, images.SeriesInstanceUID AS target
        FROM wanted JOIN images ON images.sm = wanted.ann AND images.place = wanted.place
    ),
    targets AS (
        SELECT referring.SeriesInstanceUID, images.SeriesInstanceUID AS target,
            images.sop_prefix AS target_prefix, images.instanceCount AS target_count
        FROM referring
        LEFT JOIN same_study ON same_study.SeriesInstanceUID = referring.SeriesInstanceUID
        LEFT JOIN anywhere ON anywhere.SeriesInstanceUID = referring.SeriesInstanceUID
        JOIN images ON images.SeriesInstanceUID = coalesce(same_study.target, anywhere.target)
    )
"""

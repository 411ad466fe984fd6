"""SQL for attributes that hold items of attributes: of slides, segmentations, annotations, structure sets and PET.

Segmentations, annotations and structure sets refer to a series and an instance of the export (the columns
``target``, ``target_prefix`` and ``target_count``), but for a few, which refer to what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reference.values import pick

Item = dict[str, Any]

CODE = "STRUCT(CodeValue VARCHAR, CodingSchemeDesignator VARCHAR, CodeMeaning VARCHAR)"


def code(value: str | None, meaning: str | None, scheme: str | None = "SCT") -> Item:
    """A coded concept."""
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


# --- Slides -------------------------------------------------------------------------------------------------

SPECIMEN = f"""STRUCT(
    SpecimenIdentifier VARCHAR,
    PrimaryAnatomicStructureSequence STRUCT(
        CodeValue VARCHAR, CodingSchemeDesignator VARCHAR, CodeMeaning VARCHAR,
        PrimaryAnatomicStructureModifierSequence {CODE}[])[],
    SpecimenPreparationSequence STRUCT(
        SpecimenPreparationStepContentItemSequence STRUCT(
            ConceptNameCodeSequence {CODE}[], ConceptCodeSequence {CODE}[])[])[])"""
MEDIUM = code("430863003", "Embedding medium")
FIXATIVE = code("430864009", "Tissue Fixative")
STAIN = code("424361007", "Using substance")
PROCESSING = code("111701", "Processing type", "DCM")

PARAFFIN = (MEDIUM, code("311731000", "Paraffin wax"))
FROZEN = (MEDIUM, code("433469005", "Tissue freezing medium"))
FORMALIN = (FIXATIVE, code("431510009", "Formalin"))
HAEMATOXYLIN = (STAIN, code("12710003", "hematoxylin stain"))
EOSIN = (STAIN, code("36879007", "water soluble eosin stain"))
STAINING = (PROCESSING, code("127790008", "Staining"))


def step(*content: tuple[Item | None, Item | None]) -> Item:
    """A step of preparation, of pairs of concept and value."""
    return {
        "SpecimenPreparationStepContentItemSequence": [
            {"ConceptNameCodeSequence": [name] if name else [], "ConceptCodeSequence": [value] if value else []}
            for name, value in content
        ]
    }


def specimen(structure: Item | None, modifier: Item | None, steps: Sequence[Item] | None) -> Item:
    """A specimen, from where it was taken, and how it was prepared."""
    modifiers = {"PrimaryAnatomicStructureModifierSequence": [modifier] if modifier else None}
    return {
        "SpecimenIdentifier": "S-1",
        "PrimaryAnatomicStructureSequence": [structure | modifiers] if structure else [],
        "SpecimenPreparationSequence": steps,
    }


LUNG = code("39607008", "Lung, NOS")
BREAST = code("76752008", "Breast: upper, outer")
KIDNEY = code("64033007", "Kidney")
TUMOR = code("86049000", "Neoplasm, Primary")
NORMAL = code("17621005", "Normal")
OTHER = specimen(KIDNEY, TUMOR, [step(FROZEN)])

SPECIMENS = [
    [specimen(LUNG, TUMOR, [step(STAINING, HAEMATOXYLIN, EOSIN), step(PARAFFIN), step(FORMALIN)])],
    [specimen(LUNG, NORMAL, [step(STAINING, EOSIN), step(HAEMATOXYLIN, PARAFFIN, FORMALIN, FORMALIN)])],
    [specimen(BREAST, TUMOR, [step(FROZEN), step(STAINING, HAEMATOXYLIN, EOSIN)])],
    # the second specimen of a slide is not read
    [specimen(KIDNEY, None, [step(PARAFFIN), step(FORMALIN)]), OTHER],
    # one meaning with two codes, one code with two meanings, a code that lacks its scheme, meaning or value
    [
        specimen(
            code("C12400", "Kidney", "NCIt"),
            code("C1", None, "99LOCAL"),
            [
                step((FIXATIVE, code("C1", "Formalin", "99LOCAL")), FORMALIN),
                step((STAIN, code("12710003", "Hämatoxylin: nach Mayer, 10 %")), HAEMATOXYLIN),
                step((MEDIUM, code("2", "Wax", None)), (MEDIUM, code("311731000", None)), (MEDIUM, code(None, ""))),
            ],
        )
    ],
    # the concept of another scheme, no concept, no value
    [
        specimen(
            None,
            None,
            [
                step(
                    (code("430863003", "Embedding medium", "99LOCAL"), PARAFFIN[1]), (None, PARAFFIN[1]), (STAIN, None)
                ),
                {"SpecimenPreparationStepContentItemSequence": None},
            ],
        )
    ],
    [specimen(code(None, "Skin"), NORMAL, [])],
    [specimen(LUNG, TUMOR, None)],
    [],
    None,
]

BRIGHTFIELD = code("111744", "Brightfield illumination", "DCM")
OPTICS: list[Any] = [
    [{"ObjectiveLensPower": power, "IlluminationTypeCodeSequence": illumination}]
    for power, illumination in [
        ("20", [BRIGHTFIELD]),
        ("40", [BRIGHTFIELD]),
        ("40", [code("111743", "Epifluorescence illumination", "DCM")]),
        ("40.0", []),
        ("", None),
        ("60", [code(None, "Transmission, oblique: 30°")]),
    ]
]
OPTICS += [[], None]

DIAGNOSES = [
    [code("254637007", "Non-small cell lung cancer")],
    [code("C34.1", "Upper lobe, bronchus or lung: malignant", "ICD10")],
    [code("413448000", "Adénocarcinome")],
    [code(None, "Unknown")],
    [],
    None,
    None,
]


def slides() -> dict[str, str]:
    """SQL for the columns of slide microscopy."""
    measures = [[{"PixelMeasuresSequence": [{"PixelSpacing": [size, size]}]}] for size in ("0.000251", "0.000502")]
    shared: list[list[Item] | None] = [
        *measures,
        *[[{"PixelMeasuresSequence": [{"PixelSpacing": [size, size]}]}] for size in ("0.001004", "2.495E-4", "")],
        [{"PixelMeasuresSequence": [{"PixelSpacing": []}]}],
        [{"PixelMeasuresSequence": []}],
        [{"PixelMeasuresSequence": None}],
        [],
        None,
    ]
    pixel_measures = "STRUCT(PixelMeasuresSequence STRUCT(PixelSpacing VARCHAR[])[])[]"
    optics = f"STRUCT(ObjectiveLensPower VARCHAR, IlluminationTypeCodeSequence {CODE}[])[]"
    # Most series have several instances, the layers of a pyramid: each has half the pixels of the one before.
    columns, rows = (f"({first} + h % 997) >> least(i, 9)" for first in (80_000, 60_000))
    return {
        "ContainerIdentifier": "CASE WHEN sm THEN CASE k % 9 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE 'S-' || k END END",
        "TotalPixelMatrixColumns": f"CASE WHEN sm AND (h + i) % 7 > 0 THEN {columns} END",
        "TotalPixelMatrixRows": f"CASE WHEN sm AND (h + i) % 7 > 0 THEN {rows} END",
        "SpecimenDescriptionSequence": f"""
            CASE WHEN sm THEN {pick("SpecimenDescriptionSequence", SPECIMENS, f"{SPECIMEN}[]")} END""",
        "SharedFunctionalGroupsSequence": f"""
            CASE WHEN sm THEN {pick("SharedFunctionalGroupsSequence", shared * 2 + measures, pixel_measures, "h + i")}
            END""",
        "OpticalPathSequence": f"CASE WHEN sm THEN {pick('OpticalPathSequence', OPTICS, optics)} END",
        "AdmittingDiagnosesCodeSequence": f"""
            CASE WHEN sm THEN {pick("AdmittingDiagnosesCodeSequence", DIAGNOSES, f"{CODE}[]")} END""",
    }


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


TYPES = ["BINARY", "BINARY", "FRACTIONAL", "LABELMAP", None]

# --- Annotations --------------------------------------------------------------------------------------------

GROUP = f"""STRUCT(
    AnnotationGroupNumber BIGINT, AnnotationGroupUID VARCHAR, AnnotationGroupLabel VARCHAR,
    AnnotationGroupGenerationType VARCHAR, NumberOfAnnotations BIGINT, GraphicType VARCHAR,
    AnnotationPropertyCategoryCodeSequence {CODE}[], AnnotationPropertyTypeCodeSequence {CODE}[],
    AnnotationGroupAlgorithmIdentificationSequence STRUCT(AlgorithmName VARCHAR, AlgorithmVersion VARCHAR)[])"""


def annotation_groups() -> dict[str, str]:
    """SQL for the columns of bulk annotations; a series has one to four groups."""
    by = "h + g"
    labels = ["Nuclei", "Tumor: invasive, front", "Zellkerne (groß)", "", None]
    categories = [[TISSUE], [code("91723000", "Anatomical Structure")], [], None]
    kinds = [[code("84640000", "Nucleus")], [code("4421005", "Cell: structure, whole")], [code(None, "Cell")], []]
    algorithms = [
        [{"AlgorithmName": "HoVer-Net", "AlgorithmVersion": "1"}],
        [{"AlgorithmName": None, "AlgorithmVersion": "2"}],
        [],
        None,
    ]
    values = {
        "AnnotationGroupNumber": "g",
        "AnnotationGroupUID": "sop_prefix || i || '.' || g",
        "AnnotationGroupLabel": pick("AnnotationGroupLabel", labels, "VARCHAR", by),
        "AnnotationGroupGenerationType": pick("Generation", ["AUTOMATIC", "MANUAL", None], "VARCHAR", by),
        "NumberOfAnnotations": "nullif((h * g) % 250007, 0)",
        "GraphicType": pick("GraphicType", ["POLYGON", "POINT", "ELLIPSE", None], "VARCHAR", by),
        "AnnotationPropertyCategoryCodeSequence": pick("Category", categories, f"{CODE}[]", by),
        "AnnotationPropertyTypeCodeSequence": pick("PropertyType", kinds, f"{CODE}[]", by),
        "AnnotationGroupAlgorithmIdentificationSequence": pick(
            "Algorithm", algorithms, "STRUCT(AlgorithmName VARCHAR, AlgorithmVersion VARCHAR)[]", by
        ),
    }
    item = ", ".join(f"'{name}': {value}" for name, value in values.items())
    return {
        "AnnotationCoordinateType": f"CASE WHEN ann THEN {pick('Coordinates', ['2D', '3D', None], 'VARCHAR')} END",
        "AnnotationGroupSequence": f"CASE WHEN ann THEN [{{{item}}} FOR g IN range(1, 2 + h % 4)] END::{GROUP}[]",
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
    anywhere AS (
        SELECT referring.SeriesInstanceUID, images.SeriesInstanceUID AS target
        FROM referring JOIN (SELECT sm, max(places) AS places FROM images GROUP BY sm) AS sizes ON sizes.sm = ann
        JOIN images ON images.sm = ann AND images.place = h % sizes.places
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

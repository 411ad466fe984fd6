"""SQL for the attributes of slide microscopy, and of annotations of slides, that hold items of attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.reference.values import CODE, Item, code, pick

# --- Specimens and optics ------------------------------------------------------------------------------------

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
    categories = [[code("85756007", "Tissue")], [code("91723000", "Anatomical Structure")], [], None]
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

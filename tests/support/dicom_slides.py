"""Slide microscopy (PS3.3, section A.32.8) and bulk annotations of it (section A.87)."""

from __future__ import annotations

import copy
from typing import Any

from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from tests.support.dicom_parts import (
    Datasets,
    code,
    contradicting,
    item,
    made_object,
    made_uid,
    pixels,
    sop_instance_uid,
)

FIXATIVE = code("SCT", "430864009", "Tissue Fixative")
EMBEDDING = code("SCT", "430863003", "Embedding medium")
SUBSTANCE = code("SCT", "424361007", "Using substance")
FORMALIN = code("SCT", "431510009", "Formalin")
PARAFFIN = code("SCT", "311731000", "Paraffin wax")
HEMATOXYLIN = code("SCT", "12710003", "hematoxylin stain")
EOSIN = code("SCT", "36879007", "water soluble eosin stain")
# A value of more than 16 characters has an attribute of its own (PS3.3, section 8.1).
LONG = [item(LongCodeValue="a-value-of-some-length", CodingSchemeDesignator="99NOBODY", CodeMeaning="immunostain: CD3")]


def _coded(concept: list[Dataset], values: list[Dataset]) -> Dataset:
    return item(ValueType="CODE", ConceptNameCodeSequence=concept, ConceptCodeSequence=values)


def _step(*content: Dataset, specimen: str = "S1", process: tuple[str, str]) -> Dataset:
    """A step of preparation: TID 8001 of PS3.16."""
    identifier = item(
        ValueType="TEXT",
        ConceptNameCodeSequence=code("DCM", "121041", "Specimen Identifier"),
        TextValue=specimen,
    )
    processing = _coded(code("DCM", "111701", "Processing type"), code("SCT", *process))
    return item(SpecimenPreparationStepContentItemSequence=[identifier, processing, *content])


def _specimen(*steps: Dataset, **attributes: Any) -> Dataset:
    return item(
        SpecimenIdentifier="S1",
        SpecimenUID=made_uid("specimen"),
        IssuerOfTheSpecimenIdentifierSequence=[],
        SpecimenPreparationSequence=list(steps),
        **attributes,
    )


COLLECTED, PROCESSED, STAINED = (
    ("17636008", "Specimen collection"),
    ("9265001", "Specimen processing"),
    ("127790008", "Staining"),
)


def _layer(series: str, number: int, flavor: str, size: tuple[int, int], mm: str, **attributes: Any) -> Dataset:
    """One image of a pyramid (PS3.3, section A.32.8)."""
    measures = item(SliceThickness="0.001", PixelSpacing=[mm, "0.5"])
    matrix = {"TotalPixelMatrixColumns": size[0], "TotalPixelMatrixRows": size[1], "TotalPixelMatrixFocalPlanes": 1}
    shared = [item(PixelMeasuresSequence=[measures])]
    given = {
        "ImageType": ["ORIGINAL" if number == 1 else "DERIVED", "PRIMARY", flavor, "NONE"],
        "ContainerIdentifier": "SLIDE-17",
        "SharedFunctionalGroupsSequence": shared,
        **matrix,
        "NumberOfFrames": "1",
        **pixels(),
    }
    return made_object(uid.VLWholeSlideMicroscopyImageStorage, "SM", series, number, **given | attributes)


def _without(keyword: str, dataset: Dataset) -> Dataset:
    """The same without that half of all codes, those of concept names apart."""
    for element in dataset:
        for inner in element.value if element.VR == "SQ" and element.keyword != "ConceptNameCodeSequence" else ():
            if keyword in inner:
                del inner[keyword]
            _without(keyword, inner)
    return dataset


def slides() -> Datasets:
    structure = code(
        "SCT",
        "80581009",
        "Upper outer quadrant of breast: left",
        PrimaryAnatomicStructureModifierSequence=code("SCT", "7771000", "Left"),
    )
    slide = _specimen(
        _step(process=COLLECTED),
        _step(_coded(FIXATIVE, FORMALIN), process=PROCESSED),
        _step(_coded(EMBEDDING, PARAFFIN), process=PROCESSED),
        _step(_coded(SUBSTANCE, HEMATOXYLIN), _coded(SUBSTANCE, EOSIN), process=STAINED),
        # Stained twice with the same, once with what has no code of ordinary length.
        _step(_coded(SUBSTANCE, HEMATOXYLIN), _coded(SUBSTANCE, LONG), process=STAINED),
        SpecimenShortDescription="Brustgewebe, Würfel",
        PrimaryAnatomicStructureSequence=structure,
    )
    other = _specimen(_step(_coded(EMBEDDING, code("SCT", "2", "OCT")), process=PROCESSED))
    path = item(
        OpticalPathIdentifier="1",
        IlluminationTypeCodeSequence=code("DCM", "111744", "Brightfield illumination"),
        IlluminationColorCodeSequence=code("SCT", "414298005", "Full Spectrum"),
        ObjectiveLensPower="40",
        ObjectiveLensNumericalAperture="0.75",
    )
    about: dict[str, Any] = {
        "SpecimenDescriptionSequence": [slide, other],
        "OpticalPathSequence": [path, item(OpticalPathIdentifier="2", ObjectiveLensPower="20")],
        "AdmittingDiagnosesCodeSequence": code("I10", "C50.4", "Malignant neoplasm: upper-outer quadrant"),
    }
    volume = _layer("sm-pyramid", 1, "VOLUME", (4096, 3072), "0.00025199", **about)
    yield from contradicting(volume, "sm-contradicting")
    yield volume
    yield _layer("sm-pyramid", 2, "VOLUME", (1024, 768), "0.00100796", **about)
    yield _layer("sm-pyramid", 3, "VOLUME", (256, 192), "0.004", **about)
    yield _layer("sm-pyramid", 4, "THUMBNAIL", (64, 48), "1.6e-2", **about)
    # The label and the overview are photographs: not magnified, compressed, of a container and not of tissue.
    for number, flavor in ((5, "LABEL"), (6, "OVERVIEW")):
        photograph = _layer("sm-pyramid", number, flavor, (600, 500), "0.04", SpecimenDescriptionSequence=[])
        photograph.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        photograph.PhotometricInterpretation = "RGB" if flavor == "LABEL" else "YBR_FULL_422"
        photograph.SamplesPerPixel = 3
        photograph.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        photograph["PixelData"].VR, photograph["PixelData"].is_undefined_length = "OB", True
        yield photograph
    # A field of view as a photograph: no matrix, its own pixel spacing, a lens power that is no integer, a
    # concept of another coding scheme. Two layers with different stains.
    older = code("SRT", "424361007", "Using substance")
    fluorescence = code("DCM", "111743", "Epifluorescence illumination")
    for number, stain in ((1, EOSIN), (2, code("SCT", "12710003", "Hematoxylin"))):
        steps = [
            _step(_coded(SUBSTANCE, stain), _coded(older, FORMALIN), process=STAINED),
            item(),
            _step(process=STAINED),
        ]
        nameless = item(ConceptNameCodeSequence=FIXATIVE, ConceptCodeSequence=[item(CodeMeaning="Alcohol")])
        steps.append(item(SpecimenPreparationStepContentItemSequence=[nameless, _coded(FIXATIVE, [])]))
        yield made_object(
            uid.VLSlideCoordinatesMicroscopicImageStorage,
            "SM",
            "sm-field",
            number,
            ImageType=["ORIGINAL", "PRIMARY"],
            ContainerIdentifier=f"SLIDE-{9 - number}",
            PixelSpacing=[f"0.{number}2499", "0.3"],
            OpticalPathSequence=[item(ObjectiveLensPower=b"20.0", IlluminationTypeCodeSequence=fluorescence)],
            AdmittingDiagnosesCodeSequence=code("I10", "D05", ""),
            SpecimenDescriptionSequence=[
                _specimen(*steps, PrimaryAnatomicStructureSequence=code("SCT", f"{number}", f"Part {3 - number}"))
            ],
            **pixels(),
        )
    # Of these, a code or a meaning is missing everywhere.
    for missing in ("CodeValue", "CodeMeaning"):
        whole = _layer(f"sm-no-{missing}", 1, "VOLUME", (8, 8), "0.00049", **copy.deepcopy(about))
        yield _without(missing, whole)
    # Of this one, little more than the modality is known.
    yield made_object(
        uid.VLWholeSlideMicroscopyImageStorage,
        "SM",
        "sm-bare",
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[])],
        OpticalPathSequence=[item(IlluminationTypeCodeSequence=[])],
        SpecimenDescriptionSequence=[_specimen(PrimaryAnatomicStructureSequence=[])],
    )


# --- Annotations ---


def _annotation_group(number: int, label: str, shape: str, kind: list[Dataset], **attributes: Any) -> Dataset:
    """PS3.3, section C.37.1.2, with one polygon of three points."""
    given = {
        "AnnotationGroupNumber": number,
        "AnnotationGroupUID": made_uid("group", label),
        "AnnotationGroupLabel": label,
        "AnnotationGroupGenerationType": "MANUAL",
        "AnnotationPropertyCategoryCodeSequence": code("SCT", "91723000", "Anatomical Structure"),
        "AnnotationPropertyTypeCodeSequence": kind,
        "NumberOfAnnotations": 1,
        "AnnotationAppliesToAllZPlanes": "YES",
        "AnnotationAppliesToAllOpticalPaths": "YES",
        "GraphicType": shape,
        "PointCoordinatesData": bytes(24),
        "LongPrimitivePointIndexList": b"\x01\x00\x00\x00",
    }
    group = Dataset()
    for keyword, value in (given | attributes).items():
        setattr(group, keyword, value)
    return group


def bulk_annotations() -> Datasets:
    kind = uid.MicroscopyBulkSimpleAnnotationsStorage
    nucleus, mitosis = code("SCT", "84640000", "Nucleus"), code("SCT", "75622000", "Mitotic figure: atypical")
    algorithm = item(
        AlgorithmFamilyCodeSequence=code("DCM", "123109", "Manual Processing"),
        AlgorithmName="Hover-Net",
        AlgorithmVersion="1.0",
    )
    measured = item(
        ConceptNameCodeSequence=code("SCT", "42798000", "Area"),
        MeasurementUnitsCodeSequence=code("UCUM", "um2", "square micrometer"),
        MeasurementValuesSequence=[item(FloatingPointValues=b"\x00\x00\x80\x3f")],
    )
    slide = item(
        SeriesInstanceUID=made_uid("sm-pyramid"),
        ReferencedInstanceSequence=[
            item(
                ReferencedSOPClassUID=uid.VLWholeSlideMicroscopyImageStorage,
                ReferencedSOPInstanceUID=sop_instance_uid("sm-pyramid", 1),
            )
        ],
    )
    by_program = {
        "AnnotationGroupGenerationType": "AUTOMATIC",
        "AnnotationGroupAlgorithmIdentificationSequence": [algorithm],
        "MeasurementsSequence": [measured],
        "NumberOfAnnotations": 2**31 + 5,
    }
    yield made_object(
        kind,
        "ANN",
        "ann",
        1,
        AnnotationCoordinateType="2D",
        ReferencedSeriesSequence=[slide],
        AnnotationGroupSequence=[
            _annotation_group(2, "Kerne, größere", "POLYGON", nucleus, **by_program),
            _annotation_group(10, "mitoses", "POINT", mitosis, AnnotationGroupAlgorithmIdentificationSequence=[]),
            _annotation_group(1, "", "ELLIPSE", [], NumberOfAnnotations=0),
        ],
    )
    # A second instance of that series. Its group 1 is another group than group 1 of the first instance.
    yield made_object(
        kind,
        "ANN",
        "ann",
        2,
        AnnotationCoordinateType="3D",
        ReferencedSeriesSequence=[item(SeriesInstanceUID=made_uid("sm-field"))],
        AnnotationGroupSequence=[
            _annotation_group(1, "one", "POINT", mitosis),
            _annotation_group(3, "three", "RECTANGLE", nucleus, AnnotationPropertyCategoryCodeSequence=[]),
        ],
    )
    elsewhere = [item(SeriesInstanceUID=made_uid("not in IDC"))]
    group = _annotation_group(1, "by hand", "POLYLINE", nucleus, AnnotationGroupGenerationType="SEMIAUTOMATIC")
    yield made_object(
        kind,
        "ANN",
        "ann-elsewhere",
        AnnotationCoordinateType="3D",
        ReferencedSeriesSequence=elsewhere,
        AnnotationGroupSequence=[group],
    )
    nothing: dict[str, Any] = {"ReferencedSeriesSequence": [], "AnnotationGroupSequence": []}
    yield made_object(kind, "ANN", "ann-empty", AnnotationCoordinateType="3D", **nothing)

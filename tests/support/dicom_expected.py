"""The rows that the indices have to have, by what pydicom reads in the files of an export.

They are worked out in Python, from the files and from what is promised of every column; no part of the queries, nor
what the toolkit knows of the source tables, goes into them. Rows are in no order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from tests.support.dicom_export import Instance

Row = dict[str, Any]
Expect = Callable[[list[Instance]], Iterable[Row]]

CT, MR, PT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "128"))
SEG, LABELMAP, ANN, RTSTRUCT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "66.7", "91.1", "481.3"))


# --- Attributes of files --------------------------------------------------------------------------------------


def written(value: Any) -> str:
    """A value as it was written, without padding."""
    return str(getattr(value, "original_string", value)).strip()


def texts(dataset: Dataset | None, keyword: str) -> list[str]:
    """All values of an attribute."""
    element = dataset.get(keyword) if dataset is not None else None
    if element is None or element == "":
        return []
    values = [element] if isinstance(element, str) or not isinstance(element, Sequence) else element
    found = [written(value) for value in values]
    return found if any(found) else []


def text(dataset: Dataset | None, keyword: str, place: int = 0) -> str | None:
    """One value of an attribute."""
    found = texts(dataset, keyword)
    return (found[place] or None) if place < len(found) else None


def joined(dataset: Dataset | None, keyword: str) -> str | None:
    """All values of an attribute as the file has them."""
    return "\\".join(texts(dataset, keyword)) or None


def number(dataset: Dataset | None, keyword: str, place: int = 0) -> float | None:
    found = text(dataset, keyword, place)
    return None if found is None or math.isnan(float(found)) else float(found)


def integer(dataset: Dataset | None, keyword: str) -> int | None:
    found = text(dataset, keyword)
    return int(found) if found and re.fullmatch("[-+]?[0-9]+", found) else None


def items(dataset: Dataset | None, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or []) if dataset is not None else []


def item(dataset: Dataset | None, *keywords: str) -> Dataset | None:
    """The first item of a sequence, of the first item of a sequence, ..."""
    for keyword in keywords:
        dataset = next(iter(items(dataset, keyword)), None)
    return dataset


def code(dataset: Dataset | None) -> str | None:
    """Scheme and value of an item of a code sequence."""
    scheme, value = text(dataset, "CodingSchemeDesignator"), text(dataset, "CodeValue")
    return f"{scheme}:{value}" if scheme and value else None


# --- Rules for columns ----------------------------------------------------------------------------------------


def first(values: Iterable[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)


def last(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def listed(values: Iterable[Any]) -> list[Any]:
    return sorted({value for value in values if value is not None})


def joined_list(values: Iterable[str | None]) -> str | None:
    return ",".join(listed(values)) or None


def of_class(instances: Iterable[Instance], *classes: str) -> list[list[Dataset]]:
    """The files of some SOP classes, series by series."""
    return by_series(instance for instance in instances if instance.dataset.SOPClassUID in classes)


def by_series(instances: Iterable[Instance]) -> list[list[Dataset]]:
    series: dict[str, list[Dataset]] = {}
    for instance in instances:
        series.setdefault(str(instance.dataset.SeriesInstanceUID), []).append(instance.dataset)
    return list(series.values())


class Series:
    """Short forms for the columns of one series."""

    def __init__(self, files: list[Dataset]) -> None:
        self.files = files
        self.key = {"SeriesInstanceUID": str(files[0].SeriesInstanceUID)}

    def texts(self, *keywords: str) -> Row:
        return {keyword: first(text(file, keyword) for file in self.files) for keyword in keywords}

    def arrays(self, *keywords: str) -> Row:
        """All values of the instance whose text is smallest."""
        smallest = {keyword: first(joined(file, keyword) for file in self.files) for keyword in keywords}
        return {keyword: value.split("\\") if value else [] for keyword, value in smallest.items()}

    def numbers(self, *keywords: str) -> Row:
        return {keyword: first(number(file, keyword) for file in self.files) for keyword in keywords}

    def number_lists(self, *keywords: str) -> Row:
        return {keyword: listed(number(file, keyword) for file in self.files) for keyword in keywords}

    def ranges(self, *keywords: str) -> Row:
        found: Row = {}
        for keyword in keywords:
            values = [number(file, keyword) for file in self.files]
            found |= {f"{keyword}_min": first(values), f"{keyword}_max": last(values)}
        return found

    def integers(self, *keywords: str) -> Row:
        return {keyword: first(integer(file, keyword) for file in self.files) for keyword in keywords}

    def spacing(self) -> Row:
        """Both values of the instance whose text is smallest."""
        smallest = first(joined(file, "PixelSpacing") for file in self.files)
        values = [float(value) for value in smallest.split("\\")] if smallest else []
        row, column, *_ = [*values, None, None]
        return {"PixelSpacing_row_mm": row, "PixelSpacing_col_mm": column}


# --- Rows that are expected -----------------------------------------------------------------------------------


def ct_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, CT)):
        yield (
            series.key
            | series.arrays("ImageType", "ScanOptions", "ConvolutionKernel")
            | series.spacing()
            | series.integers("Rows", "Columns")
            | series.numbers("SliceThickness", "KVP", "GantryDetectorTilt")
            | series.ranges("XRayTubeCurrent", "Exposure", "ExposureTime")
            | series.texts("FilterType")
            | series.numbers("DataCollectionDiameter", "ReconstructionDiameter", "SpiralPitchFactor")
        )


def mr_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, MR)):
        yield (
            series.key
            | series.numbers("MagneticFieldStrength", "RepetitionTime", "FlipAngle", "PixelBandwidth")
            | series.numbers("ImagingFrequency", "SliceThickness", "InversionTime")
            | series.arrays("ScanningSequence", "SequenceVariant")
            | series.number_lists("EchoTime", "DiffusionBValue")
            | series.texts("MRAcquisitionType", "ImagedNucleus", "ReceiveCoilName", "SequenceName")
            | series.integers("EchoTrainLength", "Rows", "Columns", "NumberOfTemporalPositions")
            | series.spacing()
        )


def clock(moment: str | None) -> str:
    """A time of day, HHMMSS.FFFFFF cut anywhere, as text with no, three or six digits of fractions."""
    if not moment:
        return ""
    whole, _, fraction = moment.partition(".")
    whole, fraction = whole.ljust(6, "0"), fraction.ljust(6, "0")
    told = f"{whole[:2]}:{whole[2:4]}:{whole[4:]}"
    return told if not int(fraction) else f"{told}.{fraction.removesuffix('000')}"


def pt_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, PT)):
        injected = []
        for file in series.files:
            given = item(file, "RadiopharmaceuticalInformationSequence")
            told = (
                text(item(given, "RadionuclideCodeSequence"), "CodeMeaning") or "",
                text(given, "RadionuclideTotalDose") or "",
                clock(text(given, "RadiopharmaceuticalStartTime")),
                text(given, "Radiopharmaceutical") or "",
            )
            injected.append("\\".join(told) if any(told) else None)
        radionuclide, dose, start, name = (first(injected) or "\\\\\\").split("\\")
        yield (
            series.key
            | {"SeriesType": first("/".join(texts(file, "SeriesType")) or None for file in series.files)}
            | series.texts("Units", "DecayCorrection", "RandomsCorrectionMethod", "ReconstructionMethod")
            | series.texts("ScatterCorrectionMethod", "AttenuationCorrectionMethod")
            | series.arrays("CorrectedImage")
            | series.number_lists("ActualFrameDuration")
            | {
                "RadionuclideCodeMeaning": radionuclide or None,
                "RadionuclideTotalDose": float(dose) if dose else None,
                "RadiopharmaceuticalStartTime": start or None,
                "Radiopharmaceutical": name or None,
            }
            | series.spacing()
            | series.integers("Rows", "Columns", "NumberOfSlices", "NumberOfTimeSlices")
            | series.numbers("SliceThickness")
        )


def contrast_index(instances: list[Instance]) -> Iterable[Row]:
    imaged = [i for i in instances if text(i.dataset, "Modality") in ("CT", "MR", "PT", "XA", "RF")]
    for series in map(Series, by_series(imaged)):
        named = {
            keyword: listed(text(file, keyword) for file in series.files)
            for keyword in ("ContrastBolusAgent", "ContrastBolusIngredient", "ContrastBolusRoute")
        }
        if any(named.values()):
            yield series.key | named


CONCEPTS = {
    "embeddingMedium": "SCT:430863003",
    "tissueFixative": "SCT:430864009",
    "staining_usingSubstance": "SCT:424361007",
}


def preparation(files: Iterable[Dataset]) -> Row:
    """The substances used on the first specimen of each file, each once: meanings, and codes in the same places."""
    used: dict[str, set[tuple[str, str]]] = {name: set() for name in CONCEPTS}
    for file in files:
        for step in items(item(file, "SpecimenDescriptionSequence"), "SpecimenPreparationSequence"):
            for content in items(step, "SpecimenPreparationStepContentItemSequence"):
                concept = code(item(content, "ConceptNameCodeSequence"))
                for name in (name for name, wanted in CONCEPTS.items() if wanted == concept):
                    for value in items(content, "ConceptCodeSequence"):
                        used[name].add((text(value, "CodeMeaning") or "", code(value) or ""))
    row: Row = {}
    for name, pairs in used.items():
        known = sorted(pair for pair in pairs if any(pair))
        row[f"{name}_CodeMeaning"] = [meaning for meaning, _ in known]
        row[f"{name}_code_designator_value_str"] = [value for _, value in known]
    return row


def shared_spacing(file: Dataset) -> float | None:
    return number(item(file, "SharedFunctionalGroupsSequence", "PixelMeasuresSequence"), "PixelSpacing")


def otherwise(value: Any, instead: Any) -> Any:
    return instead if value is None else value


def sm_index(instances: list[Instance]) -> Iterable[Row]:
    slides = [i for i in instances if text(i.dataset, "Modality") == "SM"]
    where = {
        "primaryAnatomicStructure": ("SpecimenDescriptionSequence", "PrimaryAnatomicStructureSequence"),
        "primaryAnatomicStructureModifier": (
            "SpecimenDescriptionSequence",
            "PrimaryAnatomicStructureSequence",
            "PrimaryAnatomicStructureModifierSequence",
        ),
        "illuminationType": ("OpticalPathSequence", "IlluminationTypeCodeSequence"),
        "admittingDiagnosis": ("AdmittingDiagnosesCodeSequence",),
    }
    for series in map(Series, by_series(slides)):
        files = series.files
        finest = first(otherwise(number(file, "PixelSpacing"), shared_spacing(file)) for file in files)
        widths = (otherwise(integer(f, "TotalPixelMatrixColumns"), integer(f, "Columns")) for f in files)
        heights = (otherwise(integer(f, "TotalPixelMatrixRows"), integer(f, "Rows")) for f in files)
        row = {
            "min_PixelSpacing_2sf": None if finest is None else float(f"{finest:.2g}"),
            "max_TotalPixelMatrixColumns": last(widths),
            "max_TotalPixelMatrixRows": last(heights),
            "ObjectiveLensPower": first(integer(item(f, "OpticalPathSequence"), "ObjectiveLensPower") for f in files),
        }
        for name, path in where.items():
            coded = [item(file, *path) for file in files]
            pairs = [(code(one) or "", text(one, "CodeMeaning") or "") for one in coded]
            known = first(f"{value}\\{meaning}" for value, meaning in pairs if value or meaning) or "\\"
            row[f"{name}_code_designator_value_str"] = known.split("\\")[0] or None
            row[f"{name}_CodeMeaning"] = known.split("\\")[1] or None
        yield series.key | series.texts("ContainerIdentifier") | preparation(files) | row


def sm_instance_index(instances: list[Instance]) -> Iterable[Row]:
    for instance in (i for i in instances if text(i.dataset, "Modality") == "SM"):
        file = instance.dataset
        yield {
            "SOPInstanceUID": text(file, "SOPInstanceUID"),
            "SeriesInstanceUID": text(file, "SeriesInstanceUID"),
            **preparation([file]),
            "PixelSpacing_0": shared_spacing(file),
            "ImageType": texts(file, "ImageType"),
            "TransferSyntaxUID": instance.transfer_syntax,
            "instance_size": len(instance.path.read_bytes()),
            "TotalPixelMatrixColumns": integer(file, "TotalPixelMatrixColumns"),
            "TotalPixelMatrixRows": integer(file, "TotalPixelMatrixRows"),
            "crdc_instance_uuid": instance.added["crdc_instance_uuid"],
        }


def seg_index(instances: list[Instance]) -> Iterable[Row]:
    series_of = {i.dataset.SOPInstanceUID: str(i.dataset.SeriesInstanceUID) for i in instances}
    places = (("ReferencedSeriesSequence", "ReferencedInstanceSequence"), ("ReferencedImageSequence",))
    for series in map(Series, of_class(instances, SEG, LABELMAP)):
        segments = [segment for file in series.files for segment in items(file, "SegmentSequence")]
        images = []
        for file in series.files:
            named = (item(file, *place) for place in (*places, ("SourceImageSequence",)))
            uids = [text(one, "ReferencedSOPInstanceUID") for one in named]
            images.append(next((uid for uid in uids if uid), None))

        def meanings(keyword: str, segments: list[Dataset] = segments) -> list[str]:
            return listed(text(item(segment, keyword), "CodeMeaning") for segment in segments)

        yield series.key | {
            "SegmentationType": first(text(file, "SegmentationType") for file in series.files),
            "total_segments": len(listed(integer(segment, "SegmentNumber") for segment in segments)),
            "AlgorithmType": joined_list(text(segment, "SegmentAlgorithmType") for segment in segments),
            "AlgorithmName": joined_list(text(segment, "SegmentAlgorithmName") for segment in segments),
            "segmented_SeriesInstanceUID": first(series_of.get(uid) for uid in images),
            "SegmentedPropertyCategory_CodeMeanings": meanings("SegmentedPropertyCategoryCodeSequence"),
            "SegmentedPropertyType_CodeMeanings": meanings("SegmentedPropertyTypeCodeSequence"),
            "AnatomicRegion_CodeMeanings": meanings("AnatomicRegionSequence"),
        }


def ann_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, ANN)):
        slides = (text(item(file, "ReferencedSeriesSequence"), "SeriesInstanceUID") for file in series.files)
        yield series.key | series.texts("AnnotationCoordinateType") | {"referenced_SeriesInstanceUID": first(slides)}


def ann_group_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, ANN)):
        for group in (group for file in series.files for group in items(file, "AnnotationGroupSequence")):
            category = item(group, "AnnotationPropertyCategoryCodeSequence")
            kind = item(group, "AnnotationPropertyTypeCodeSequence")
            algorithm = item(group, "AnnotationGroupAlgorithmIdentificationSequence")
            yield series.key | {
                "AnnotationGroupNumber": integer(group, "AnnotationGroupNumber"),
                "AnnotationGroupUID": text(group, "AnnotationGroupUID"),
                "AnnotationGroupLabel": text(group, "AnnotationGroupLabel"),
                "AnnotationGroupGenerationType": text(group, "AnnotationGroupGenerationType"),
                "NumberOfAnnotations": integer(group, "NumberOfAnnotations"),
                "GraphicType": text(group, "GraphicType"),
                "AnnotationPropertyCategory_code": code(category),
                "AnnotationPropertyCategory_CodeMeaning": text(category, "CodeMeaning"),
                "AnnotationPropertyType_code": code(kind),
                "AnnotationPropertyType_CodeMeaning": text(kind, "CodeMeaning"),
                "AlgorithmName": text(algorithm, "AlgorithmName"),
            }


def rtstruct_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, RTSTRUCT)):
        regions = [region for file in series.files for region in items(file, "StructureSetROISequence")]
        interpreted = []
        for file in series.files:
            numbers = {text(region, "ROINumber") for region in items(file, "StructureSetROISequence")}
            interpreted += [
                text(observation, "RTROIInterpretedType")
                for observation in items(file, "RTROIObservationsSequence")
                if text(observation, "ReferencedROINumber") in numbers
            ]
        drawn_on = (
            text(referenced, "SeriesInstanceUID")
            for file in series.files
            for frame in items(file, "ReferencedFrameOfReferenceSequence")
            for study in items(frame, "RTReferencedStudySequence")
            for referenced in items(study, "RTReferencedSeriesSequence")
        )
        yield series.key | {
            "total_rois": len(listed(text(region, "ROINumber") for region in regions)),
            "ROINames": listed(text(region, "ROIName") for region in regions),
            "ROIGenerationAlgorithms": listed(text(region, "ROIGenerationAlgorithm") for region in regions),
            "RTROIInterpretedTypes": listed(interpreted),
            "referenced_SeriesInstanceUID": first(drawn_on),
        }


Vector = tuple[float, ...]


def vector(dataset: Dataset, keyword: str, size: int) -> Vector | None:
    values = [number(dataset, keyword, place) for place in range(size)]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == size else None


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def one_value(values: list[Any]) -> bool:
    """Whether a value is known of every instance, and is the same."""
    return None not in values and len(set(values)) == 1


def all_of(flags: Iterable[bool | None]) -> bool | None:
    """AND with three values: one FALSE decides; otherwise one NULL makes the result NULL."""
    found = set(flags)
    return False if False in found else None if None in found else True


def volume_geometry_index(instances: list[Instance]) -> Iterable[Row]:
    for series in map(Series, of_class(instances, CT, MR, PT)):
        files = series.files
        kinds = [kind for file in files for kind in texts(file, "ImageType")]
        if "LOCALIZER" in kinds or any("MIP" in kind for kind in kinds):
            continue
        directions = [vector(file, "ImageOrientationPatient", 6) for file in files]
        positions = [vector(file, "ImagePositionPatient", 3) for file in files]
        placed = [(d, p) for d, p in zip(directions, positions, strict=True) if d and p]
        normals = [cross(d[:3], d[3:]) for d in directions if d]
        along = [dot(p, cross(d[:3], d[3:])) for d, p in placed]
        in_row, in_column = [dot(p, d[:3]) for d, p in placed], [dot(p, d[3:]) for d, p in placed]
        every = len(placed) == len(files)
        gaps = [after - before for before, after in zip(sorted(along), sorted(along)[1:], strict=False)]
        spacing = (max(along) - min(along)) / (len(files) - 1) if every and len(files) > 1 else None
        angles = [
            math.degrees(math.acos(min(1.0, max(map(abs, n)) / math.hypot(*n)))) for n in normals if math.hypot(*n)
        ]
        flags: Row = {
            "single_orientation": one_value(directions),
            "orthogonal_orientation": None not in directions and all(abs(math.hypot(*n) - 1) <= 0.01 for n in normals),
            "unique_slice_positions": every and len(set(along)) == len(files),
            "consistent_in_plane_row": every and max(in_row) - min(in_row) < 0.1,
            "consistent_in_plane_col": every and max(in_column) - min(in_column) < 0.1,
            "consistent_pixel_spacing": one_value([vector(file, "PixelSpacing", 2) for file in files]),
            "consistent_image_dimensions": one_value([integer(file, "Rows") for file in files])
            and one_value([integer(file, "Columns") for file in files]),
            "uniform_slice_spacing": None
            if len(files) == 1
            else spacing is not None and all(abs(gap - spacing) < 0.01 * spacing for gap in gaps),
        }
        regular = all_of(flags.values())
        lowest = placed[along.index(min(along))] if regular else ((), ())
        yield (
            series.key
            | flags
            | {
                "obliquity_degrees": round(min(angles), 2) if angles else None,
                "regularly_spaced_3d_volume": regular,
                "origin_patient": list(lowest[1]),
                "ImageOrientationPatient": list(lowest[0]),
                "slice_spacing_mm": spacing if regular else None,
            }
        )


def sop_class_name(uid: str) -> str:
    # Younger than some versions of pydicom.
    return "Label Map Segmentation Storage" if uid == LABELMAP else UID(uid).name


def transfer_syntax_name(uid: str) -> str:
    """The name in the standard without what it says of compression in general."""
    name = UID(uid).name.replace("(Lossless Only)", "Lossless")
    return re.sub(r" Image Compression|,? \(Process.*|, Non-Hierarchical.*", "", name)


def day(date: str | None) -> str | None:
    """A date, YYYYMMDD or as before 1993 with dots between, as YYYY-MM-DD."""
    return date and re.sub(r"(\d{4})\.?(\d{2})\.?(\d{2})", r"\1-\2-\3", date)


def idc_index(instances: list[Instance]) -> Iterable[Row]:
    series: dict[str, list[Instance]] = {}
    for instance in instances:
        series.setdefault(str(instance.dataset.SeriesInstanceUID), []).append(instance)
    for members in series.values():
        short = Series([member.dataset for member in members])
        added = {name: first(member.added[name] for member in members) for name in members[0].added}
        known = [member for member in members if member.in_side_tables]
        syntaxes = listed(member.transfer_syntax for member in members)
        sop_class = short.texts("SOPClassUID")
        yield (
            short.key
            | {name: added[name] for name in ("collection_id", "analysis_result_id", "license_short_name")}
            | {name: added[name] for name in ("aws_bucket", "crdc_series_uuid")}
            | {"source_DOI": added["Source_DOI"], "series_aws_url": f"{added['series_aws_url']}*"}
            | short.texts("PatientID", "StudyInstanceUID", "PatientAge", "PatientSex", "StudyDescription", "Modality")
            | short.texts("Manufacturer", "ManufacturerModelName", "SeriesDescription", "SeriesNumber")
            | {keyword: day(short.texts(keyword)[keyword]) for keyword in ("StudyDate", "SeriesDate")}
            | {"BodyPartExamined": first(member.curated_body_part for member in known)}
            | sop_class
            | {"sop_class_name": sop_class_name(sop_class["SOPClassUID"])}
            | {"TransferSyntaxUID": ",".join(syntaxes)}
            | {"transfer_syntax_name": joined_list(map(transfer_syntax_name, syntaxes))}
            | {
                keyword: joined_list(text(file, keyword) for file in short.files)
                for keyword in ("PhotometricInterpretation", "PixelRepresentation")
            }
            | {"instanceCount": len(members)}
            | {"series_init_idc_version": first(member.versions[0] for member in known)}
            | {"series_revised_idc_version": last(member.versions[1] for member in known)}
            | {"series_size_MB": sum(len(member.path.read_bytes()) for member in members) / 1_000_000}
        )


EXPECTED: dict[str, Expect] = {
    expect.__name__: expect
    for expect in (
        *(ct_index, mr_index, pt_index, contrast_index, sm_index, sm_instance_index, seg_index, ann_index),
        *(ann_group_index, rtstruct_index, volume_geometry_index, idc_index),
    )
}

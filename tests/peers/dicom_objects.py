"""DICOM objects as files: real ones that the package pydicom carries, and ones of kinds that it has none of.

    write_objects(folder)

The real ones are copied byte for byte. Where several are one object in different encodings, all but one get a SOP
Instance UID of their own, as no two instances of IDC share one; they stay in their encoding. The others are made here
after PS3.3 of the DICOM standard (CT, MR, PET, RT structure sets, slide microscopy, segmentations, bulk annotations),
with what real files are known for: padding, empty elements and sequences, private attributes, other alphabets,
numbers written as the standard forbids. They are written and read by pydicom, so that values pass through a file.

Nothing comes from the network. The same version of pydicom makes the same files.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread, uid
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

Datasets = Iterator[Dataset]

# --- Real objects -------------------------------------------------------------------------------------------

CT2, CT2N, CT5N = "dicomdirtests/77654033/CT2", "dicomdirtests/98892001/CT2N", "dicomdirtests/98892001/CT5N"
MR1, MR2, MR700 = (f"dicomdirtests/98892003/{name}" for name in ("MR1", "MR2", "MR700"))
REAL = [
    # CT: a series of four slices, of two and of five, and three single ones, two of them compressed
    *(f"{CT2}/{name}" for name in ("17106", "17136", "17166", "17196")),
    *(f"{CT2N}/{name}" for name in ("6293", "6924")),
    *(f"{CT5N}/{name}" for name in ("2062", "2392", "2693", "3023", "3353")),
    *("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"),
    # MR: a series of seven slices, two of three, single ones, and one image in seven encodings
    *(f"{MR700}/{name}" for name in ("4467", "4528", "4558", "4588", "4618", "4648", "4678")),
    *(f"{MR2}/{name}" for name in ("15970", "4950", "4981", "5011", "6273", "6605", "6935")),
    *(f"{MR1}/{name}" for name in ("15820", "4919", "5641")),
    *("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_padded.dcm", "MR_small_RLE.dcm"),
    *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "examples_overlay.dcm"),
    # CR, US, NM
    *(f"dicomdirtests/77654033/{name}" for name in ("CR1/6154", "CR2/6247", "CR3/6278")),
    *("ExplVR_BigEnd.dcm", "examples_jpeg2k.dcm", "examples_palette.dcm", "examples_rgb_color.dcm"),
    *("examples_ybr_color.dcm", "JPEG2000.dcm", "JPEG-lossy.dcm"),
    # SEG, made with dcmqi: in little and in big endian
    *("liver_1frame.dcm", "liver_expb_1frame.dcm"),
    # radiotherapy; the structure set comes without the header of a file
    *("rtstruct.dcm", "rtplan.dcm", "rtdose_1frame.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm"),
    # reports, a waveform
    *("reportsi.dcm", "reportsi_with_empty_number_tags.dcm", "test-SR.dcm", "waveform_ecg.dcm"),
    # secondary captures: compressed, deflated, without a modality
    *("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_small_odd.dcm"),
    *("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm", "GDCMJ2K_TextGBR.dcm"),
]
ALPHABETS = [
    *("chrArab", "chrFren", "chrFrenMulti", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2"),
    *("chrJapMulti", "chrJapMultiExplicitIR6", "chrKoreanMulti", "chrRuss", "chrX1", "chrX2"),
]


def real_files() -> list[Path]:
    """The files of pydicom that are used. None of them is fetched: they come with the package."""
    files = [get_testdata_file(name, download=False) for name in REAL]
    files += [path for name in ALPHABETS for path in get_charset_files(f"{name}.dcm")]
    missing = [name for name, file in zip(REAL, files, strict=False) if file is None]
    if missing or len(files) != len(REAL) + len(ALPHABETS):
        raise FileNotFoundError(f"pydicom has no longer all that is tested on: {missing}")
    return [Path(str(file)) for file in files]


def write_objects(folder: Path) -> None:
    """Write all objects to a folder, one file each, in the order of their names."""
    paths: list[Path] = []
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real files break rules, and pydicom says so
        for source in real_files():
            paths.append(folder / f"{len(paths):03}-{source.stem}.dcm")
            dataset = dcmread(source, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
            elif dataset.SOPInstanceUID not in seen:
                shutil.copyfile(source, paths[-1])
                seen.add(dataset.SOPInstanceUID)
                continue
            else:
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid("again", source.name)
            dataset.save_as(paths[-1], enforce_file_format=True)
        for dataset in written():
            paths.append(folder / f"{len(paths):03}-{dataset.Modality}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)


def read(path: Path) -> Dataset:
    """What pydicom reads of a file, without the pixels; all of it is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path, stop_before_pixels=True)
        for _ in dataset.iterall():
            pass
    return dataset


# --- Parts of objects ---------------------------------------------------------------------------------------


def _uid(*names: object) -> uid.UID:
    return uid.generate_uid(entropy_srcs=[str(name) for name in names])


def sop_instance_uid(series: str, number: int) -> uid.UID:
    """SOP Instance UID of an object that is made here."""
    return _uid(series, number)


def _item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        if isinstance(value, bytes) and dictionary_VR(keyword) not in ("OB", "OW"):
            # As it will be in the file, padding, forbidden characters and all.
            tag = Tag(tag_for_keyword(keyword) or 0)
            dataset[tag] = RawDataElement(tag, dictionary_VR(keyword), len(value), value, 0, False, True)
        else:
            setattr(dataset, keyword, value)
    return dataset


def _code(scheme: str, value: str, meaning: str, **others: Any) -> list[Dataset]:
    """A code sequence of one item (PS3.3, section 8)."""
    return [_item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **others)]


def _object(kind: uid.UID, modality: str, series: str, number: int = 1, **attributes: Any) -> Dataset:
    """What all objects have: a patient for each modality, with one study; text in UTF-8 unless said otherwise."""
    common: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": kind,
        "SOPInstanceUID": sop_instance_uid(series, number),
        "SeriesInstanceUID": _uid(series),
        "StudyInstanceUID": _uid("study", modality),
        "FrameOfReferenceUID": _uid("frame", modality),
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
    dataset = _item(**common | attributes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    private = dataset.private_block(0x0011, "NOBODY 1.0", create=True)
    private.add_new(0x01, "LO", "private text")
    private.add_new(0x02, "SQ", [_item(SeriesDescription="in a private sequence")])
    return dataset


def _pixels(rows: int = 4, columns: int = 4) -> dict[str, Any]:
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


def _contradicting(dataset: Dataset, series: str) -> Datasets:
    """Two instances that make a series of their own, of which the second has more or larger of everything."""
    for number in (1, 2):
        made = copy.deepcopy(dataset)
        made.SeriesInstanceUID = _uid(series)
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


def _place(position: list[Any], orientation: list[Any] = AXIAL, spacing: Any = (0.5, 0.7)) -> dict[str, Any]:
    return {
        "ImagePositionPatient": position,
        "ImageOrientationPatient": orientation,
        "PixelSpacing": spacing if isinstance(spacing, bytes) else list(spacing),
    }


# --- Objects ------------------------------------------------------------------------------------------------


def written() -> Datasets:
    """The objects that are made here."""
    yield from _ct()
    yield from _mr()
    yield from _pet()
    yield from _fluoroscopy()
    yield from _slides()
    yield from _annotations()
    yield from _segmentations()
    yield from _structure_sets()


def _ct() -> Datasets:
    kind = uid.CTImageStorage
    # A regular volume, whose images differ in nearly everything else.
    for number, (current, agent, tilt, pitch) in enumerate(
        [
            ("120", b"Omnipaque ", b"-0.0", 0.9),
            (b" 95.5 ", b"NONE", b"0", float("nan")),
            ("2e2", b"", b"", None),
            ("120", b"Omnipaque", b"0", 1.2),
        ],
        1,
    ):
        scan = _object(
            kind,
            "CT",
            "ct-regular",
            number,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL", f"CT_SOM{number}"],
            PatientAge="061Y" if number < 3 else "",
            StudyDescription="Schädel, Hals & Thorax",
            SeriesDescription="胸部 造影" if number > 1 else "",
            BodyPartExamined="Chest",
            SliceThickness="2.5",
            KVP=b"120 " if number == 1 else b"+1.2E2",
            ScanOptions=["HELICAL MODE", "X"][:number],
            ConvolutionKernel=["B30f", "3"] if number > 1 else "B30f",
            GantryDetectorTilt=tilt,
            XRayTubeCurrent=current,
            FilterType=b"WEDGE 0 " if number == 1 else b"",
            Exposure="7",
            ExposureTime=str(500 * number),
            DataCollectionDiameter="500.",
            ReconstructionDiameter=".35e3",
            ContrastBolusAgent=agent,
            ContrastBolusIngredient="IODINE" if number < 3 else "",
            ContrastBolusRoute="IV" if number < 3 else "",
            **_place([-10, f"{20.25:.3f}", 2.5 * number]),
            **_pixels(),
        )
        if pitch is not None:
            scan.SpiralPitchFactor = pitch
        if number == 1:
            yield from _contradicting(scan, "ct-contradicting")
        yield scan
    # Oblique by 10 degrees, and as regular as the digits of a DS allow.
    oblique = [1, 0, 0, 0, "0.984807753", "0.173648178"]
    for number in range(3):
        yield _object(
            kind,
            "CT",
            "ct-oblique",
            number,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            **_place([0, f"{-0.173648178 * 3 * number:.9f}", f"{0.984807753 * 3 * number:.9f}"], oblique),
            **_pixels(),
        )
    # Regular within what is allowed.
    yield from (_slice("ct-nudged", n, _place([0.04 * n, -0.04 * n, z])) for n, z in enumerate([0, 1, 2.01]))
    # Oblique in all three directions.
    row, column, normal = [2, -2, 1], [1, 2, 2], [-2, -1, 2]  # thirds
    thirds = [f"{third / 3:.13f}" for third in (*row, *column)]
    yield from (
        _slice("ct-thirds", n, _place([f"{9 + 2 * n * third / 3:.12f}" for third in normal], thirds)) for n in range(4)
    )
    # Irregular in one way each: a gap, two at one place, a step aside, another spacing, another size, two directions,
    # cosines that are too short, too long or at an angle.
    yield from (_slice("ct-gap", n, _place([0, 0, z])) for n, z in enumerate([0, 1, 3]))
    yield from (_slice("ct-twice", n, _place([0, 0, z])) for n, z in enumerate([0, 1, 1]))
    yield from (_slice("ct-aside", n, _place([n * 0.08, 0, n])) for n in range(3))
    yield from (_slice("ct-below", n, _place([0, n * 0.08, n])) for n in range(3))
    yield from (_slice("ct-spacing-r", n, _place([0, 0, n], spacing=f"0.5{n}\\0.50".encode())) for n in range(2))
    yield from (_slice("ct-spacing-c", n, _place([0, 0, n], spacing=f"0.50\\0.5{n}".encode())) for n in range(2))
    yield from (_slice("ct-rows", n, _place([0, 0, n]), size=(4 + n, 4)) for n in range(2))
    yield from (_slice("ct-columns", n, _place([0, 0, n]), size=(4, 4 + n)) for n in range(2))
    for component in range(6):
        turned = list(AXIAL)
        turned[component] += 0.001
        places = (_place([0, 0, n], [AXIAL, turned][n]) for n in range(2))
        yield from (_slice(f"ct-turned-{component}", n, place) for n, place in enumerate(places))
    for length in (0.98, 1.02):
        places = (_place([0, 0, n], [1, 0, 0, 0, [1, length][n], 0]) for n in range(2))
        yield from (_slice(f"ct-length-{length}", n, place) for n, place in enumerate(places))
    yield from (_slice("ct-skewed", n, _place([0, 0, n], [1, 0, 0, "0.6", "0.8", 0])) for n in range(2))
    # One text for a number or another: the same number.
    yield from (_slice("ct-written", n, _place([0, 0, n], spacing=[b"0.5\\.70", b"0.50\\0.7"][n])) for n in range(2))
    # No volumes: a localizer among slices, projections.
    yield from (
        _slice("ct-localizer", n, _place([0, 0, n]), kind=["ORIGINAL", "PRIMARY", "LOCALIZER" if n else "AXIAL"])
        for n in range(2)
    )
    yield _slice("ct-mip", 1, _place([0, 0, 0]), kind=["DERIVED", "SECONDARY", "AXIAL", "MIP THIN"])
    # All that may be empty is.
    nothing = "ImageType PixelSpacing KVP ScanOptions ConvolutionKernel SliceThickness FilterType Exposure StudyDate"
    nothing += " ImagePositionPatient ImageOrientationPatient SeriesDescription Manufacturer SeriesNumber StudyTime"
    yield _object(kind, "CT", "ct-empty", ReferencedImageSequence=[], **dict.fromkeys(nothing.split(), b""))


def _slice(
    series: str,
    number: int,
    place: dict[str, Any],
    size: tuple[int, int] = (4, 4),
    kind: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
) -> Dataset:
    return _object(uid.CTImageStorage, "CT", series, number, ImageType=list(kind), **place, **_pixels(*size))


def _mr() -> Datasets:
    # Text in Latin-1; the coil is named with an umlaut and padded.
    for number, (echo, b_value) in enumerate([("90.5", 1000.0), (b"80.0", 0.0), ("80", 1000.0), (b"", None)]):
        image = _object(
            uid.MRImageStorage,
            "MR",
            "mr-diffusion",
            number,
            SpecificCharacterSet="ISO_IR 100",
            SeriesDescription="Größe",
            ImageType=["ORIGINAL", "PRIMARY", "M", "ND"],
            MagneticFieldStrength=b"3 " if number else b"1.5 ",
            ScanningSequence=["EP", "SE"] if number else ["SE"],
            SequenceVariant=["SK", "SP", "OSP"],
            MRAcquisitionType="2D",
            EchoTime=echo,
            RepetitionTime="5000",
            # An integer may not be written so.
            EchoTrainLength=b"12.0" if number else b"+1",
            FlipAngle="90",
            PixelBandwidth="1502",
            ImagingFrequency="123.25",
            ImagedNucleus="1H",
            InversionTime="" if number else "100",
            ReceiveCoilName="Kopfspüle".encode("latin-1") + b"   ",
            SequenceName=b"" if number else b"*ep_b0 ",
            NumberOfTemporalPositions=b"-03 ",
            SliceThickness="5",
            # Without a second value there is one for rows only.
            **_place([0, 0, 5 * number], spacing=b"1.75\\2" if number else b"1.5 "),
            **_pixels(),
        )
        if b_value is not None:
            image.DiffusionBValue = b_value
        if number == 0:
            yield from _contradicting(image, "mr-contradicting")
        yield image
    # An agent in Japanese, switching alphabets in the middle (PS3.5, section 6.1.2.5).
    yield _object(
        uid.MRImageStorage,
        "MR",
        "mr-contrast",
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        ContrastBolusAgent="ガドリニウム Gd",
        ContrastBolusIngredient="GADOLINIUM",
        ContrastBolusRoute="INTRAVENOUS",
        EchoTrainLength=b" 7",
        InversionTime="2.5e3",
        ReceiveCoilName="BODY",
        DiffusionBValue=0.5,
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        **_pixels(),
    )


def _pet() -> Datasets:
    fluorine = _code("SCT", "77004003", "^18^Fluorine")
    gallium = _code("SCT", "78884000", "^68^Gallium")
    # Two items, of which the first counts; instances that say different things of it.
    items = {
        1: _item(
            Radiopharmaceutical=b"Fluorodeoxyglucose",
            RadiopharmaceuticalStartTime=b"100511.120000 ",
            RadionuclideTotalDose="3.5e8",
            RadionuclideHalfLife="6586.2",
            RadionuclideCodeSequence=fluorine,
            RadiopharmaceuticalCodeSequence=_code("SCT", "35321007", "Fluorodeoxyglucose F^18^"),
        ),
        2: _item(
            Radiopharmaceutical="FDG",
            RadiopharmaceuticalStartTime="0930",
            RadionuclideTotalDose=b"350000000.0 ",
            RadionuclideCodeSequence=fluorine,
        ),
        3: _item(Radiopharmaceutical="", RadionuclideTotalDose="", RadionuclideCodeSequence=[]),
    }
    for number, item in items.items():
        yield _object(
            uid.PositronEmissionTomographyImageStorage,
            "PT",
            "pt-dynamic",
            number,
            SeriesType=["DYNAMIC", "IMAGE"],
            Units="BQML",
            DecayCorrection="START",
            CorrectedImage=["DECY", "ATTN", "SCAT", "DTIM", "RANSM", "NORM"][: 3 + number],
            RandomsCorrectionMethod="DLYD",
            ReconstructionMethod="PSF+TOF 2i21s",
            ActualFrameDuration=str(120_000 // number),
            ScatterCorrectionMethod="",
            AttenuationCorrectionMethod="measured,AC_CT",
            RadiopharmaceuticalInformationSequence=[item, _item(Radiopharmaceutical="A second")],
            NumberOfSlices=3,
            NumberOfTimeSlices=number,
            SliceThickness="2",
            **_place([0, 0, 2 * number]),
            **_pixels(),
        )
    late = _item(
        Radiopharmaceutical="DOTATATE",
        RadiopharmaceuticalStartTime="235959.999999",
        RadionuclideTotalDose="185",
        RadionuclideCodeSequence=gallium,
    )
    static = _object(
        uid.PositronEmissionTomographyImageStorage,
        "PT",
        "pt-static",
        SeriesType=["STATIC", "IMAGE"],
        Units="CNTS",
        DecayCorrection="NONE",
        CorrectedImage="NORM",
        RandomsCorrectionMethod="NONE",
        ReconstructionMethod="FBP",
        ActualFrameDuration="60000",
        ScatterCorrectionMethod=b"Model-based ",
        AttenuationCorrectionMethod="NONE",
        RadiopharmaceuticalInformationSequence=[late],
        NumberOfSlices=1,
        NumberOfTimeSlices=0,
        SliceThickness="3.27",
        ContrastBolusAgent="Oral",
        **_place([0, 0, 0], spacing=(4, 4.07)),
        **_pixels(5, 6),
    )
    yield from _contradicting(static, "pt-contradicting")
    yield static
    yield _object(
        uid.PositronEmissionTomographyImageStorage,
        "PT",
        "pt-empty",
        SeriesType="",
        RadiopharmaceuticalInformationSequence=[],
        **_pixels(),
    )


def _fluoroscopy() -> Datasets:
    # Agents are listed for XA and RF as well, though not for DX; nor where there is but a volume.
    yield _object(uid.XRayAngiographicImageStorage, "XA", "xa", ContrastBolusIngredient="IODINE", **_pixels())
    yield _object(
        uid.XRayRadiofluoroscopicImageStorage, "RF", "rf", ContrastBolusAgent=b"Barium  ", ContrastBolusVolume="0"
    )
    yield _object(uid.XRayRadiofluoroscopicImageStorage, "RF", "rf-none", ContrastBolusVolume="5")
    yield _object(uid.DigitalXRayImageStorageForPresentation, "DX", "dx", ContrastBolusAgent="Barium", **_pixels())


# --- Slide microscopy ---------------------------------------------------------------------------------------

FIXATIVE = _code("SCT", "430864009", "Tissue Fixative")
EMBEDDING = _code("SCT", "430863003", "Embedding medium")
SUBSTANCE = _code("SCT", "424361007", "Using substance")
FORMALIN = _code("SCT", "431510009", "Formalin")
PARAFFIN = _code("SCT", "311731000", "Paraffin wax")
HEMATOXYLIN = _code("SCT", "12710003", "hematoxylin stain")
EOSIN = _code("SCT", "36879007", "water soluble eosin stain")
# A value of more than 16 characters has an attribute of its own (PS3.3, section 8.1).
LONG = [
    _item(LongCodeValue="a-value-of-some-length", CodingSchemeDesignator="99NOBODY", CodeMeaning="immunostain: CD3")
]


def _coded(concept: list[Dataset], values: list[Dataset]) -> Dataset:
    return _item(ValueType="CODE", ConceptNameCodeSequence=concept, ConceptCodeSequence=values)


def _step(*content: Dataset, specimen: str = "S1", process: tuple[str, str]) -> Dataset:
    """A step of preparation: TID 8001 of PS3.16."""
    identifier = _item(
        ValueType="TEXT",
        ConceptNameCodeSequence=_code("DCM", "121041", "Specimen Identifier"),
        TextValue=specimen,
    )
    processing = _coded(_code("DCM", "111701", "Processing type"), _code("SCT", *process))
    return _item(SpecimenPreparationStepContentItemSequence=[identifier, processing, *content])


def _specimen(*steps: Dataset, **attributes: Any) -> Dataset:
    return _item(
        SpecimenIdentifier="S1",
        SpecimenUID=_uid("specimen"),
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
    measures = _item(SliceThickness="0.001", PixelSpacing=[mm, "0.5"])
    pixels = _pixels() | {"NumberOfFrames": "1", "SamplesPerPixel": 1}
    matrix = {"TotalPixelMatrixColumns": size[0], "TotalPixelMatrixRows": size[1], "TotalPixelMatrixFocalPlanes": 1}
    shared = [_item(PixelMeasuresSequence=[measures])]
    given = {
        "ImageType": ["ORIGINAL" if number == 1 else "DERIVED", "PRIMARY", flavor, "NONE"],
        "ContainerIdentifier": "SLIDE-17",
        "SharedFunctionalGroupsSequence": shared,
        **matrix,
        **pixels,
    }
    return _object(uid.VLWholeSlideMicroscopyImageStorage, "SM", series, number, **given | attributes)


def _without(keyword: str, dataset: Dataset) -> Dataset:
    """The same without that half of all codes, those of concept names apart."""
    for element in dataset:
        for item in element.value if element.VR == "SQ" and element.keyword != "ConceptNameCodeSequence" else ():
            if keyword in item:
                del item[keyword]
            _without(keyword, item)
    return dataset


def _slides() -> Datasets:
    structure = _code(
        "SCT",
        "80581009",
        "Upper outer quadrant of breast: left",
        PrimaryAnatomicStructureModifierSequence=_code("SCT", "7771000", "Left"),
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
    other = _specimen(_step(_coded(EMBEDDING, _code("SCT", "2", "OCT")), process=PROCESSED))
    path = _item(
        OpticalPathIdentifier="1",
        IlluminationTypeCodeSequence=_code("DCM", "111744", "Brightfield illumination"),
        IlluminationColorCodeSequence=_code("SCT", "414298005", "Full Spectrum"),
        ObjectiveLensPower="40",
        ObjectiveLensNumericalAperture="0.75",
    )
    about: dict[str, Any] = {
        "SpecimenDescriptionSequence": [slide, other],
        "OpticalPathSequence": [path, _item(OpticalPathIdentifier="2", ObjectiveLensPower="20")],
        "AdmittingDiagnosesCodeSequence": _code("I10", "C50.4", "Malignant neoplasm: upper-outer quadrant"),
    }
    volume = _layer("sm-pyramid", 1, "VOLUME", (4096, 3072), "0.00025199", **about)
    yield from _contradicting(volume, "sm-contradicting")
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
    older = _code("SRT", "424361007", "Using substance")
    fluorescence = _code("DCM", "111743", "Epifluorescence illumination")
    for number, stain in ((1, EOSIN), (2, _code("SCT", "12710003", "Hematoxylin"))):
        steps = [
            _step(_coded(SUBSTANCE, stain), _coded(older, FORMALIN), process=STAINED),
            _item(),
            _step(process=STAINED),
        ]
        nameless = _item(ConceptNameCodeSequence=FIXATIVE, ConceptCodeSequence=[_item(CodeMeaning="Alcohol")])
        steps.append(_item(SpecimenPreparationStepContentItemSequence=[nameless, _coded(FIXATIVE, [])]))
        yield _object(
            uid.VLSlideCoordinatesMicroscopicImageStorage,
            "SM",
            "sm-field",
            number,
            ImageType=["ORIGINAL", "PRIMARY"],
            ContainerIdentifier=f"SLIDE-{9 - number}",
            PixelSpacing=[f"0.{number}2499", "0.3"],
            OpticalPathSequence=[_item(ObjectiveLensPower=b"20.0", IlluminationTypeCodeSequence=fluorescence)],
            AdmittingDiagnosesCodeSequence=_code("I10", "D05", ""),
            SpecimenDescriptionSequence=[
                _specimen(*steps, PrimaryAnatomicStructureSequence=_code("SCT", f"{number}", f"Part {3 - number}"))
            ],
            **_pixels(),
        )
    # Of these, a code or a meaning is missing everywhere.
    for missing in ("CodeValue", "CodeMeaning"):
        whole = _layer(f"sm-no-{missing}", 1, "VOLUME", (8, 8), "0.00049", **copy.deepcopy(about))
        yield _without(missing, whole)
    # Of this one, little more than the modality is known.
    yield _object(
        uid.VLWholeSlideMicroscopyImageStorage,
        "SM",
        "sm-bare",
        SharedFunctionalGroupsSequence=[_item(PixelMeasuresSequence=[])],
        OpticalPathSequence=[_item(IlluminationTypeCodeSequence=[])],
        SpecimenDescriptionSequence=[_specimen(PrimaryAnatomicStructureSequence=[])],
    )


# --- Annotations, segmentations, structure sets -------------------------------------------------------------


def _annotation_group(number: int, label: str, shape: str, kind: list[Dataset], **attributes: Any) -> Dataset:
    """PS3.3, section C.37.1.2, with one polygon of three points."""
    given = {
        "AnnotationGroupNumber": number,
        "AnnotationGroupUID": _uid("group", label),
        "AnnotationGroupLabel": label,
        "AnnotationGroupGenerationType": "MANUAL",
        "AnnotationPropertyCategoryCodeSequence": _code("SCT", "91723000", "Anatomical Structure"),
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


def _annotations() -> Datasets:
    kind = uid.MicroscopyBulkSimpleAnnotationsStorage
    nucleus, mitosis = _code("SCT", "84640000", "Nucleus"), _code("SCT", "75622000", "Mitotic figure: atypical")
    algorithm = _item(
        AlgorithmFamilyCodeSequence=_code("DCM", "123109", "Manual Processing"),
        AlgorithmName="Hover-Net",
        AlgorithmVersion="1.0",
    )
    measured = _item(
        ConceptNameCodeSequence=_code("SCT", "42798000", "Area"),
        MeasurementUnitsCodeSequence=_code("UCUM", "um2", "square micrometer"),
        MeasurementValuesSequence=[_item(FloatingPointValues=b"\x00\x00\x80\x3f")],
    )
    slide = _item(
        SeriesInstanceUID=_uid("sm-pyramid"),
        ReferencedInstanceSequence=[
            _item(
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
    yield _object(
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
    # Another instance of that series, which uses a number again: of two groups, the one with the smaller UID stays.
    yield _object(
        kind,
        "ANN",
        "ann",
        2,
        AnnotationCoordinateType="3D",
        ReferencedSeriesSequence=[_item(SeriesInstanceUID=_uid("sm-field"))],
        AnnotationGroupSequence=[
            _annotation_group(1, "one", "POINT", mitosis),
            _annotation_group(3, "three", "RECTANGLE", nucleus, AnnotationPropertyCategoryCodeSequence=[]),
        ],
    )
    elsewhere = [_item(SeriesInstanceUID=_uid("not in IDC"))]
    group = _annotation_group(1, "by hand", "POLYLINE", nucleus, AnnotationGroupGenerationType="SEMIAUTOMATIC")
    yield _object(
        kind,
        "ANN",
        "ann-elsewhere",
        AnnotationCoordinateType="3D",
        ReferencedSeriesSequence=elsewhere,
        AnnotationGroupSequence=[group],
    )
    nothing: dict[str, Any] = {"ReferencedSeriesSequence": [], "AnnotationGroupSequence": []}
    yield _object(kind, "ANN", "ann-empty", AnnotationCoordinateType="3D", **nothing)


def _segment(number: int, *kind: str, **attributes: Any) -> Dataset:
    """PS3.3, section C.8.20.4."""
    given = {
        "SegmentNumber": number,
        "SegmentLabel": f"Segment {number}",
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "TotalSegmentator",
        "SegmentedPropertyCategoryCodeSequence": _code("SCT", "123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": _code("SCT", *kind),
    }
    return _item(**given | attributes)


def _image_reference(series: str, number: int) -> list[Dataset]:
    return [
        _item(ReferencedSOPClassUID=uid.CTImageStorage, ReferencedSOPInstanceUID=sop_instance_uid(series, number)),
        _item(ReferencedSOPClassUID=uid.CTImageStorage, ReferencedSOPInstanceUID=sop_instance_uid("pt-static", 1)),
    ]


def _series_reference(series: str, number: int) -> list[Dataset]:
    # The series named here need not be the one that the image is in; what counts is the image.
    return [_item(SeriesInstanceUID=_uid("elsewhere"), ReferencedInstanceSequence=_image_reference(series, number))]


def _segmentations() -> Datasets:
    kind = uid.SegmentationStorage
    lung, lesion = ("39607008", "Lung"), ("52988006", "Lesion")
    chest = {"AnatomicRegionSequence": _code("SCT", "51185008", "Chest")}
    by_hand = {"SegmentAlgorithmType": "MANUAL", "SegmentAlgorithmName": ""}
    yield _object(
        kind,
        "SEG",
        "seg-of-ct",
        1,
        SegmentationType="BINARY",
        SegmentSequence=[
            _segment(1, *lung, **chest, SegmentAlgorithmName=["TotalSegmentator", "v2"]),
            _segment(2, *lesion, **by_hand, AnatomicRegionSequence=_code("SCT", "39607008", "Lung, linke")),
            _segment(
                3,
                *lesion,
                SegmentedPropertyCategoryCodeSequence=_code("SCT", "49755003", "Morphologic Abnormality"),
                AnatomicRegionSequence=[],
            ),
        ],
        ReferencedSeriesSequence=_series_reference("ct-regular", 2),
        SourceImageSequence=_image_reference("ct-oblique", 1),
        **_pixels(),
    )
    # The other instance numbers anew, and names no image by series.
    yield _object(
        kind,
        "SEG",
        "seg-of-ct",
        2,
        SegmentationType="FRACTIONAL",
        SegmentSequence=[_segment(1, *lesion, SegmentAlgorithmName="nnU-Net", **chest)],
        ReferencedSeriesSequence=[],
        ReferencedImageSequence=_image_reference("ct-gap", 2),
        **_pixels(),
    )
    yield _object(
        kind,
        "SEG",
        "seg-by-source",
        SegmentationType="BINARY",
        SegmentSequence=[_segment(7, *lung, **by_hand)],
        ReferencedSeriesSequence=[_item(SeriesInstanceUID=_uid("ct-gap"))],
        ReferencedImageSequence=[_item(ReferencedSOPClassUID=uid.CTImageStorage)],
        SourceImageSequence=_image_reference("mr-diffusion", 0),
        **_pixels(),
    )
    # IDC does not have the image that is named first; the next place is not asked.
    yield _object(
        kind,
        "SEG",
        "seg-astray",
        SegmentationType="BINARY",
        SegmentSequence=[],
        ReferencedSeriesSequence=_series_reference("not in IDC", 1),
        SourceImageSequence=_image_reference("ct-regular", 1),
        **_pixels(),
    )
    labels = [_segment(number, str(number), name) for number, name in enumerate(["Background", "Liver", "Kidney"])]
    yield _object(
        uid.UID("1.2.840.10008.5.1.4.1.1.66.7"),
        "SEG",
        "seg-labels",
        SegmentationType="LABELMAP",
        SegmentSequence=labels,
        ReferencedImageSequence=_image_reference("ct-oblique", 2),
        **_pixels(),
    )


def _structure_sets() -> Datasets:
    kind = uid.RTStructureSetStorage

    def roi(number: int, name: str, algorithm: str = "MANUAL") -> Dataset:
        return _item(
            ROINumber=str(number),
            ReferencedFrameOfReferenceUID=_uid("frame", "CT"),
            ROIName=name,
            ROIGenerationAlgorithm=algorithm,
        )

    def observation(number: int, of: int, interpreted: str) -> Dataset:
        return _item(
            ObservationNumber=str(number),
            ReferencedROINumber=str(of),
            RTROIInterpretedType=interpreted,
            ROIInterpreter="",
        )

    def drawn_on(*series: str) -> list[Dataset]:
        referenced = [
            _item(SeriesInstanceUID=_uid(name), ContourImageSequence=_image_reference(name, 1)) for name in series
        ]
        studies = [_item(ReferencedSOPInstanceUID=_uid("study", "CT"), RTReferencedSeriesSequence=referenced)]
        empty = _item(FrameOfReferenceUID=_uid("frame", "MR"), RTReferencedStudySequence=[])
        return [empty, _item(FrameOfReferenceUID=_uid("frame", "CT"), RTReferencedStudySequence=studies)]

    yield _object(
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
    yield _object(
        kind,
        "RTSTRUCT",
        "rt",
        2,
        StructureSetROISequence=[roi(9, "PTV", ""), roi(1, "肝臓", "AUTOMATIC")],
        RTROIObservationsSequence=[observation(1, 3, "SUPPORT"), observation(2, 1, "ORGAN")],
        ReferencedFrameOfReferenceSequence=[],
    )
    yield _object(kind, "RTSTRUCT", "rt-empty", StructureSetROISequence=[], RTROIObservationsSequence=[])

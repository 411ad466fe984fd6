"""CT, MR, PET and fluoroscopic images, after PS3.3, sections A.3, A.4, A.21, A.14 and A.16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset, uid

from tests.support.dicom_parts import AXIAL, Datasets, code, contradicting, item, made_object, pixels, place


def ct() -> Datasets:
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
        scan = made_object(
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
            **place([-10, f"{20.25:.3f}", 2.5 * number]),
            **pixels(),
        )
        if pitch is not None:
            scan.SpiralPitchFactor = pitch
        if number == 1:
            yield from contradicting(scan, "ct-contradicting")
        yield scan
    # Oblique by 10 degrees, and as regular as the digits of a DS allow.
    oblique = [1, 0, 0, 0, "0.984807753", "0.173648178"]
    for number in range(3):
        yield made_object(
            kind,
            "CT",
            "ct-oblique",
            number,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            **place([0, f"{-0.173648178 * 3 * number:.9f}", f"{0.984807753 * 3 * number:.9f}"], oblique),
            **pixels(),
        )
    # Regular within what is allowed.
    yield from (_slice("ct-nudged", n, place([0.04 * n, -0.04 * n, z])) for n, z in enumerate([0, 1, 2.01]))
    # Oblique in all three directions.
    row, column, normal = [2, -2, 1], [1, 2, 2], [-2, -1, 2]  # thirds
    thirds = [f"{third / 3:.13f}" for third in (*row, *column)]
    yield from (
        _slice("ct-thirds", n, place([f"{9 + 2 * n * third / 3:.12f}" for third in normal], thirds)) for n in range(4)
    )
    # Irregular in one way each: a gap, two at one place, a step aside, another spacing, another size, two directions,
    # cosines that are too short, too long or at an angle.
    yield from (_slice("ct-gap", n, place([0, 0, z])) for n, z in enumerate([0, 1, 3]))
    yield from (_slice("ct-twice", n, place([0, 0, z])) for n, z in enumerate([0, 1, 1]))
    yield from (_slice("ct-aside", n, place([n * 0.08, 0, n])) for n in range(3))
    yield from (_slice("ct-below", n, place([0, n * 0.08, n])) for n in range(3))
    yield from (_slice("ct-spacing-r", n, place([0, 0, n], spacing=f"0.5{n}\\0.50".encode())) for n in range(2))
    yield from (_slice("ct-spacing-c", n, place([0, 0, n], spacing=f"0.50\\0.5{n}".encode())) for n in range(2))
    yield from (_slice("ct-rows", n, place([0, 0, n]), size=(4 + n, 4)) for n in range(2))
    yield from (_slice("ct-columns", n, place([0, 0, n]), size=(4, 4 + n)) for n in range(2))
    for component in range(6):
        turned: list[Any] = list(AXIAL)
        turned[component] += 0.001
        places = (place([0, 0, n], [AXIAL, turned][n]) for n in range(2))
        yield from (_slice(f"ct-turned-{component}", n, place) for n, place in enumerate(places))
    for length in (0.98, 1.02):
        places = (place([0, 0, n], [1, 0, 0, 0, [1, length][n], 0]) for n in range(2))
        yield from (_slice(f"ct-length-{length}", n, place) for n, place in enumerate(places))
    yield from (_slice("ct-skewed", n, place([0, 0, n], [1, 0, 0, "0.6", "0.8", 0])) for n in range(2))
    # One text for a number or another: the same number.
    yield from (_slice("ct-written", n, place([0, 0, n], spacing=[b"0.5\\.70", b"0.50\\0.7"][n])) for n in range(2))
    # No volumes: a localizer among slices, projections.
    yield from (
        _slice("ct-localizer", n, place([0, 0, n]), kind=["ORIGINAL", "PRIMARY", "LOCALIZER" if n else "AXIAL"])
        for n in range(2)
    )
    yield _slice("ct-mip", 1, place([0, 0, 0]), kind=["DERIVED", "SECONDARY", "AXIAL", "MIP THIN"])
    # All that may be empty is.
    nothing = "ImageType PixelSpacing KVP ScanOptions ConvolutionKernel SliceThickness FilterType Exposure StudyDate"
    nothing += " ImagePositionPatient ImageOrientationPatient SeriesDescription Manufacturer SeriesNumber StudyTime"
    empty: dict[str, Any] = dict.fromkeys(nothing.split(), b"")
    yield made_object(kind, "CT", "ct-empty", ReferencedImageSequence=[], **empty)


def _slice(
    series: str,
    number: int,
    place: dict[str, Any],
    size: tuple[int, int] = (4, 4),
    kind: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
) -> Dataset:
    return made_object(uid.CTImageStorage, "CT", series, number, ImageType=list(kind), **place, **pixels(*size))


def mr() -> Datasets:
    # Text in Latin-1; the coil is named with an umlaut and padded.
    for number, (echo, b_value) in enumerate([("90.5", 1000.0), (b"80.0", 0.0), ("80", 1000.0), (b"", None)]):
        image = made_object(
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
            **place([0, 0, 5 * number], spacing=b"1.75\\2" if number else b"1.5 "),
            **pixels(),
        )
        if b_value is not None:
            image.DiffusionBValue = b_value
        if number == 0:
            yield from contradicting(image, "mr-contradicting")
        yield image
    # An agent in Japanese, switching alphabets in the middle (PS3.5, section 6.1.2.5).
    yield made_object(
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
        **pixels(),
    )


def pet() -> Datasets:
    fluorine = code("SCT", "77004003", "^18^Fluorine")
    gallium = code("SCT", "78884000", "^68^Gallium")
    # Two items, of which the first counts; instances that say different things of it.
    given = {
        1: item(
            Radiopharmaceutical=b"Fluorodeoxyglucose",
            RadiopharmaceuticalStartTime=b"100511.120000 ",
            RadionuclideTotalDose="3.5e8",
            RadionuclideHalfLife="6586.2",
            RadionuclideCodeSequence=fluorine,
            RadiopharmaceuticalCodeSequence=code("SCT", "35321007", "Fluorodeoxyglucose F^18^"),
        ),
        2: item(
            Radiopharmaceutical="FDG",
            RadiopharmaceuticalStartTime="0930",
            RadionuclideTotalDose=b"350000000.0 ",
            RadionuclideCodeSequence=fluorine,
        ),
        3: item(Radiopharmaceutical="", RadionuclideTotalDose="", RadionuclideCodeSequence=[]),
    }
    for number, injected in given.items():
        yield made_object(
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
            RadiopharmaceuticalInformationSequence=[injected, item(Radiopharmaceutical="A second")],
            NumberOfSlices=3,
            NumberOfTimeSlices=number,
            SliceThickness="2",
            **place([0, 0, 2 * number]),
            **pixels(),
        )
    late = item(
        Radiopharmaceutical="DOTATATE",
        RadiopharmaceuticalStartTime="235959.999999",
        RadionuclideTotalDose="185",
        RadionuclideCodeSequence=gallium,
    )
    static = made_object(
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
        **place([0, 0, 0], spacing=(4, 4.07)),
        **pixels(5, 6),
    )
    yield from contradicting(static, "pt-contradicting")
    yield static
    yield made_object(
        uid.PositronEmissionTomographyImageStorage,
        "PT",
        "pt-empty",
        SeriesType="",
        RadiopharmaceuticalInformationSequence=[],
        **pixels(),
    )


def fluoroscopy() -> Datasets:
    # Agents are listed for XA and RF as well, though not for DX; nor where there is but a volume.
    yield made_object(uid.XRayAngiographicImageStorage, "XA", "xa", ContrastBolusIngredient="IODINE", **pixels())
    yield made_object(
        uid.XRayRadiofluoroscopicImageStorage, "RF", "rf", ContrastBolusAgent=b"Barium  ", ContrastBolusVolume="0"
    )
    yield made_object(uid.XRayRadiofluoroscopicImageStorage, "RF", "rf-none", ContrastBolusVolume="5")
    yield made_object(uid.DigitalXRayImageStorageForPresentation, "DX", "dx", ContrastBolusAgent="Barium", **pixels())

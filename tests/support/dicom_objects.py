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

import shutil
import warnings
from pathlib import Path

from pydicom import Dataset, dcmread, uid
from pydicom.data import get_charset_files, get_testdata_file

from tests.support.dicom_images import ct, fluoroscopy, mr, pet
from tests.support.dicom_parts import Datasets, made_uid
from tests.support.dicom_regions import segmentations, structure_sets
from tests.support.dicom_slides import bulk_annotations, slides

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


def made() -> Datasets:
    """The objects that pydicom has none of."""
    yield from ct()
    yield from mr()
    yield from pet()
    yield from fluoroscopy()
    yield from slides()
    yield from bulk_annotations()
    yield from segmentations()
    yield from structure_sets()


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
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = made_uid("again", source.name)
            dataset.save_as(paths[-1], enforce_file_format=True)
        for one in made():
            paths.append(folder / f"{len(paths):03}-{one.Modality}.dcm")
            one.save_as(paths[-1], enforce_file_format=True)


def read(path: Path) -> Dataset:
    """What pydicom reads of a file, without the pixels; all of it is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path, stop_before_pixels=True)
        for _ in dataset.iterall():
            pass
    return dataset

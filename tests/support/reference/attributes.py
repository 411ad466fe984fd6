"""SQL for the attributes of CT, MR and PET images: acquisition, contrast, and where the slices lie.

Most series agree on a value, some do not (column ``k``). Among the values are missing ones, empty ones, and text
that is not what the attribute calls for, because real ones are so. A third of the volumes is regular; the others
have faults, most of them one, by ``h % 20`` (``FAULTS``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.reference.values import K, chosen, constant, pick

Values = Mapping[str, Sequence[Any]]

NAN = float("nan")

CT: Values = {
    "KVP": ["120", "120", "120", "100", "140", "80", "120.0", "1.2E+02", "", None, "120 kV"],
    "ScanOptions": [["HELICAL MODE"], ["AXIAL MODE"], ["HELIX", "CT"], [], None],
    "ConvolutionKernel": [["STANDARD"], ["B30f"], ["I31f", "2"], ["Br40d", "3"], ["FC08"], ["LUNG"], [], None],
    "GantryDetectorTilt": ["0", "0", "0.000000", "-15", "+5.5", "", None],
    "XRayTubeCurrent": ["200", "180", "245", " 310 ", "95", "401", "200.5", "", None, "auto"],
    "FilterType": ["BODY FILTER", "LARGE FILTER", "0", "WEDGE_2", "AL,TI", "", None],
    "Exposure": ["100", "13", "250", "87", "0", "1e2", "", None],
    "ExposureTime": ["500", "1000", "750", "2800", "", None, "n/a"],
    "DataCollectionDiameter": ["500", "500.000000", "480", "650", "", None],
    "ReconstructionDiameter": ["360", "400.000000", "217.5", "499.99", "", None],
    "SpiralPitchFactor": [0.984375, 1.375, 0.6, 1.0, NAN, None],
}
MR: Values = {
    "MagneticFieldStrength": ["1.5", "3", "3.0", "1.494", "", None, "15000"],
    "ScanningSequence": [["SE"], ["GR"], ["EP", "SE"], ["SE", "IR"], [], None],
    "SequenceVariant": [["SK"], ["SP", "OSP"], ["SK", "SP", "MP"], [], None],
    "MRAcquisitionType": ["2D", "2D", "3D", "", None],
    "EchoTime": ["2.46", "14", "97", "101.5", "9.0", "", None, "minimum"],
    "RepetitionTime": ["500", "3000.0", "4.6", "6.5e2", "", None],
    "EchoTrainLength": ["1", "16", "0", " 8 ", "1.0", "", None, "eight"],
    "FlipAngle": ["90", "150", "12", "9.000", "", None],
    "PixelBandwidth": ["130", "244.141", "1502", "", None],
    "ImagingFrequency": ["63.86", "127.728", "123.259", "6.3682e1", "", None],
    "ImagedNucleus": ["1H", "1H", "H1", "", None],
    "InversionTime": ["900", "2500.0", "0", "", None],
    "ReceiveCoilName": ["HEAD", "8HRBRAIN", "Körper, vorn", "", None],
    "SequenceName": ["*se2d1", "*tfl3d1_16ns", "ep_b1000#5", "", None],
    "DiffusionBValue": [0.0, 50.0, 400.0, 1000.0, NAN, None, None, None],
    "NumberOfTemporalPositions": ["1", "60", "2.5", "", None],
}
PT: Values = {
    "SeriesType": [["WHOLE BODY", "IMAGE"], ["STATIC", "IMAGE"], ["DYNAMIC", "IMAGE"], ["GATED"], [], None],
    "Units": ["BQML", "BQML", "CNTS", "GML", "PROPCPS", None],
    "DecayCorrection": ["START", "START", "ADMIN", "NONE", "", None],
    "CorrectedImage": [["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"], ["ATTN", "DECY"], [], None],
    "RandomsCorrectionMethod": ["DLYD", "SING", "NONE", None],
    "ReconstructionMethod": ["OSEM 3i24s", "PSF+TOF 3i21s", "VPFX", "3D: Kinahan, Rogers", "", None],
    "ActualFrameDuration": ["180000", "120000", "60000", "90000.0", "", None],
    "ScatterCorrectionMethod": ["Model-based", "Convolution: subtraction", "NONE", "", None],
    "AttenuationCorrectionMethod": ["CT-derived mu-map", "measured, 0.096000 cm-1, 180°", "NONE", "", None],
    "NumberOfSlices": [47, 109, 299, 0, None],
    "NumberOfTimeSlices": [1, 20, None],
}
SLICE: Values = {"SliceThickness": ["1.25", "2.5", "5", "3.000000", "0.625", " 2 ", "1.0E+0", "", None, "NaN"]}
CONTRAST: Values = {
    "ContrastBolusAgent": ["OMNIPAQUE", "Omnipaque 350, 100 ml", "Gadavist: 7.5 mL", "Jodlösung", "", None],
    "ContrastBolusIngredient": ["IODINE", "GADOLINIUM", "BARIUM SULFATE", None, None],
    "ContrastBolusRoute": ["IV", "Intravenous route", "ORAL", "", None, None],
}
# By the flag of the instances that have them.
TABLES = {"ct": CT, "mr": MR, "pt": PT, "slice": SLICE, "contrasted": CONTRAST}
# What differs between the instances of most series: up to four values.
VARYING = {"XRayTubeCurrent", "Exposure", "ExposureTime", "EchoTime", "DiffusionBValue", "ActualFrameDuration"}
UP_TO_FOUR = "h + i % (1 + h % 4)"

# Row and column direction as DICOM text, and the normal.
ORIENTATIONS: list[tuple[list[str] | None, tuple[float, float, float]]] = [
    (["1", "0", "0", "0", "1", "0"], (0, 0, 1)),
    (["1.0", "0.0", "0.0", "0.0", "1.0", "-0.0"], (0, 0, 1)),
    (["1.000000", "0.000000", "0.000000", "0.000000", "1.000000", "0.000000"], (0, 0, 1)),
    (["0", "1", "0", "0", "0", "-1"], (-1, 0, 0)),
    (["1", "0", "0", "0", "0", "-1"], (0, 1, 0)),
    # tilted about one axis by 15° and about two by 30° and 20°
    (["1", "0", "0", "0", "0.965926", "-0.258819"], (0, 0.258819, 0.965926)),
    (["0.866025", "0", "-0.5", "0.17101", "0.939693", "0.296198"], (0.469846, -0.342020, 0.813798)),
    # not at right angles, not complete, not there
    (["1", "0", "0", "0.3", "0.9", "0"], (0, 0, 1)),
    (["1", "0", "0", "0", "1"], (0, 0, 1)),
    ([], (0, 0, 1)),
    (None, (0, 0, 1)),
]
AXIAL, SAGITTAL, TILTED = 1, 4, 6
# Most series of slices are axial.
ORIENTATIONS += ORIENTATIONS[:3] * 6

FAULTS = {
    "sheared": 10,  # tilted slices, shifted along the axis of the body, as a tilted gantry leaves them
    "gap": 11,
    "doubled": 12,
    "localizer": 13,
    "projection": 14,
    "two orientations": 15,
    "no position": 16,
    # 7 and 17: the instances disagree
    "spelling": 18,  # of the same pixel spacing
    "uneven": 19,
}

ORIENTATION = f"""
    CASE h % 20
        WHEN {FAULTS["sheared"]} THEN {TILTED}
        WHEN {FAULTS["two orientations"]} THEN CASE i % 2 WHEN 0 THEN {AXIAL} ELSE {SAGITTAL} END
        ELSE {chosen("ImageOrientationPatient", len(ORIENTATIONS), K)}
    END
"""
# Of a slice from the first one, mm along the normal.
DISTANCE = f"""
    (CASE h % 20
        WHEN {FAULTS["gap"]} THEN i + (i > instanceCount // 2)::BIGINT
        WHEN {FAULTS["doubled"]} THEN i // 2
        WHEN {FAULTS["uneven"]} THEN i + (i % 2) * 0.2::DOUBLE
        ELSE i
    END) * {pick("spacing", [0.625, 1.0, 1.25, 2.5, 3.0, 5.0], "DOUBLE", "h")}
"""


def position() -> str:
    """SQL for ImagePositionPatient, from ``orientation`` and ``distance``."""
    numbers = []
    for axis, first in enumerate(("-150 - h % 100", "h % 37 - 120.5", "h % 1000 - 1500.25")):
        normals = constant([normal[axis] * 1.0 for _, normal in ORIENTATIONS])
        along = f"({normals}::DOUBLE[])[CASE WHEN h % 20 = {FAULTS['sheared']} THEN {AXIAL} ELSE orientation END]"
        numbers.append(f"({first} + distance * {along})::DECIMAL(12, 3)::VARCHAR")
    return f"""
        CASE WHEN NOT slice THEN NULL
            WHEN h % 20 = {FAULTS["no position"]} AND i % 5 = 4
            THEN ({constant([None, [], ["0", "n/a", "12.5"]])}::VARCHAR[][])[1 + i % 3]
            ELSE [{", ".join(numbers)}]
        END
    """


def geometry() -> dict[str, str]:
    """SQL for the columns that tell how pixels lie in an image, and images in space."""
    spellings = [["0.703125", "0.703125"], ["0.7031250", "7.03125E-1"]]
    spacings = [["0.703125", "0.703125"], ["0.9765625", "0.9765625"], ["1", "1.0"], ["0.5", "0.4"]]
    odd_spacings = [["0.78125"], ["0.78125", ""], ["1,5", "1,5"], [], None]
    localizer = "i = 0 AND slice AND h % 20 = " + str(FAULTS["localizer"])
    projection = "i % 3 = 0 AND slice AND h % 20 = " + str(FAULTS["projection"])
    projections = [["DERIVED", "SECONDARY", "MIP"], ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]]
    layers = [
        ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"],
        ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"],
        ["ORIGINAL", "PRIMARY", "LABEL", "NONE"],
        ["DERIVED", "PRIMARY", "THUMBNAIL", "RESAMPLED"],
        [],
    ]
    images = [["ORIGINAL", "PRIMARY", "AXIAL"]] * 4 + [["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"], [], None]
    sizes = [512, 512, 512, 256, 320, 1024, 128, None]
    uneven = f"CASE WHEN i = 1 AND slice AND h % 20 = {FAULTS['uneven']} THEN 1 ELSE 0 END"
    return {
        "ImageType": f"""
            CASE WHEN NOT picture THEN NULL
                WHEN sm THEN {pick("ImageType", layers, "VARCHAR[]", "h + i")}
                WHEN {localizer} THEN ['ORIGINAL', 'PRIMARY', 'LOCALIZER']
                WHEN {projection} THEN {pick("ImageType", projections, "VARCHAR[]")}
                ELSE {pick("ImageType", images, "VARCHAR[]")}
            END""",
        "PixelSpacing": f"""
            CASE WHEN sm THEN {pick("PixelSpacing", [*[None] * 4, ["0.0005", "0.0005"]], "VARCHAR[]")}
                WHEN NOT picture THEN NULL
                WHEN h % 20 = {FAULTS["spelling"]} THEN ({constant(spellings)}::VARCHAR[][])[1 + i % 2]
                ELSE {pick("PixelSpacing", spacings * 5 + odd_spacings, "VARCHAR[]")}
            END""",
        "Rows": f"CASE WHEN picture THEN {pick('Rows', sizes * 3 + [0], 'BIGINT')} + {uneven} END",
        "Columns": f"CASE WHEN picture THEN {pick('Rows', sizes * 3 + [512], 'BIGINT')} END",
        "ImageOrientationPatient": f"""
            CASE WHEN slice THEN ({constant([text for text, _ in ORIENTATIONS])}::VARCHAR[][])[orientation] END""",
        "ImagePositionPatient": position(),
    }


def attributes() -> dict[str, str]:
    """SQL for the columns of this module, by name."""
    columns = geometry()
    for flag, table in TABLES.items():
        for name, values in table.items():
            kinds = {list: "VARCHAR[]", str: "VARCHAR", int: "BIGINT", float: "DOUBLE"}
            kind = kinds[type(next(value for value in values if value is not None))]
            value = pick(name, values, kind, UP_TO_FOUR if name in VARYING else "k")
            columns[name] = f"CASE WHEN {flag} THEN {value} END"
    return columns

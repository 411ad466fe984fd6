"""volume_geometry_index against the same geometry in numpy, on series that a scanner could have made, or spoilt.

The reference below is written from the description of the columns, with vectors where the query has columns, and
sorts where the query has a window. It shares no text with the query.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.catalog import Catalog
from tests.support.oracle import Tables, assert_same, by_duckdb
from tests.support.strategies import columns_read, table_of

INDEX = Catalog().indices["volume_geometry_index"].for_release(25)
((TABLE, COLUMNS),) = columns_read(INDEX.statement.leaves).items()
FLAGS = {column.name for column in INDEX.schema.columns if column.type == "BOOLEAN"} - {"regularly_spaced_3d_volume"}
CT, MR, PT, ENHANCED_MR, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "128", "4.1", "7"))

Row = dict[str, Any]
Vector = Sequence[float]


# --- Series -------------------------------------------------------------------------------------------------

AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)


def turned(degrees: float) -> Vector:
    """Axial slices, turned around the rows."""
    angle = math.radians(degrees)
    return (1, 0, 0, 0, math.cos(angle), math.sin(angle))


def texts(numbers: Vector) -> list[str]:
    """DICOM numbers, of 16 characters at most."""
    return [f"{number:.10g}" for number in numbers]


def instance(position: Vector, orientation: Vector = AXIAL, **columns: Any) -> Row:
    """One slice; position in mm."""
    return {
        "SeriesInstanceUID": "1",
        "SOPClassUID": CT,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": texts(position),
        "ImageOrientationPatient": texts(orientation),
        "PixelSpacing": ["0.7", "0.7"],
        "Rows": 512,
        "Columns": 512,
    } | columns


def stack(
    slices: int = 8,
    spacing: float = 2.5,
    orientation: Vector = AXIAL,
    step: Vector | None = None,
    origin: Vector = (-120.5, -80.25, 33),
    **columns: Any,
) -> list[Row]:
    """Slices at equal distances in mm: along their normal, or along `step` of length 1."""
    along = np.cross(orientation[:3], orientation[3:]) if step is None else np.array(step)
    places = np.array(origin) + spacing * np.outer(np.arange(slices), along)
    return [instance(place, orientation, **columns) for place in places.tolist()]


def with_slice(rows: list[Row], number: int, **columns: Any) -> list[Row]:
    """The same series but for one slice."""
    return [*rows[:number], rows[number] | columns, *rows[number + 1 :]]


def at(*heights: float, x: Vector = ()) -> list[Row]:
    """Slices at these z, and at these x if any."""
    return [instance((x[n] if x else 0, 0, z)) for n, z in enumerate(heights)]


def moved(rows: list[Row], number: int, by: Vector) -> list[Row]:
    """One slice at another place."""
    place = [float(text) + shift for text, shift in zip(rows[number]["ImagePositionPatient"], by, strict=True)]
    return with_slice(rows, number, ImagePositionPatient=texts(place))


def named(rows: list[Row], uid: str) -> list[Row]:
    return [row | {"SeriesInstanceUID": uid} for row in rows]


# --- The reference ------------------------------------------------------------------------------------------


def number(text: str) -> float:
    """A DICOM number of some use: cosines and lengths in mm are below 1e9; NaN for all else."""
    try:
        value = float(text) if re.fullmatch(r"[-+.0-9eE ]+", text) else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) <= 1e9 else math.nan


def numbers(rows: list[Row], column: str, count: int) -> np.ndarray[Any, Any]:
    """One vector for each slice, NaN where a number is missing."""
    vectors = [[*map(number, row[column] or ()), *[math.nan] * count][:count] for row in rows]
    return np.array(vectors) + 0.0


def known(values: np.ndarray[Any, Any]) -> bool:
    return bool(np.isfinite(values).all())


def geometry(rows: list[Row]) -> Row:
    """What the index says of one series."""
    position, orientation = numbers(rows, "ImagePositionPatient", 3), numbers(rows, "ImageOrientationPatient", 6)
    pixels = numbers(rows, "PixelSpacing", 2)
    size = np.array([[row["Rows"], row["Columns"]] for row in rows], dtype=float)
    r, c = orientation[:, :3], orientation[:, 3:]
    normal = np.cross(r, c)
    length = np.linalg.norm(normal, axis=1)
    s, along_row, along_column = ((position * axis).sum(axis=1) for axis in (normal, r, c))
    spacing = np.ptp(s) / (len(rows) - 1) if len(rows) > 1 else math.nan
    one = len(rows) == 1
    flags: Row = {
        "single_orientation": known(orientation) and len(np.unique(orientation, axis=0)) == 1,
        "orthogonal_orientation": known(length) and bool(np.all((length >= 0.99) & (length <= 1.01))),
        "unique_slice_positions": known(s) and len(np.unique(s)) == len(rows),
        "consistent_in_plane_row": known(s) and bool(np.ptp(along_row) < 0.1),
        "consistent_in_plane_col": known(s) and bool(np.ptp(along_column) < 0.1),
        "consistent_pixel_spacing": known(pixels) and len(np.unique(pixels, axis=0)) == 1,
        "consistent_image_dimensions": known(size) and len(np.unique(size, axis=0)) == 1,
        "uniform_slice_spacing": None
        if one
        else known(s) and bool(np.all(np.abs(np.diff(np.sort(s)) - spacing) < 0.01 * spacing)),
    }
    # AND with three values
    regular = False if False in flags.values() else None if None in flags.values() else True
    first = int(np.argmin(s))
    oriented = length > 0  # NaN is not
    cosines = np.abs(normal[oriented]).max(axis=1) / length[oriented] if oriented.any() else np.array([])
    return flags | {
        "obliquity_degrees": math.degrees(math.acos(min(1.0, cosines.max()))) if cosines.size else None,
        "regularly_spaced_3d_volume": regular,
        "origin_patient": position[first].tolist() if regular else [],
        "ImageOrientationPatient": orientation[first].tolist() if regular else [],
        "slice_spacing_mm": float(spacing) if regular else None,
    }


def is_slice(row: Row) -> bool:
    return not any(value == "LOCALIZER" or "MIP" in value for value in row["ImageType"] or ())


def reference(rows: list[Row]) -> list[Row]:
    """The index of these instances, in any order."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["SOPClassUID"] in (CT, MR, PT):
            series.setdefault(row["SeriesInstanceUID"], []).append(row)
    kept = [{"SeriesInstanceUID": uid} | geometry(of) for uid, of in series.items() if all(map(is_slice, of))]
    regular_first = (True, False, None)
    return sorted(
        kept, key=lambda row: (regular_first.index(row["regularly_spaced_3d_volume"]), row["SeriesInstanceUID"])
    )


# --- The comparison -----------------------------------------------------------------------------------------


def source(rows: list[Row]) -> Tables:
    return {TABLE: table_of(COLUMNS, rows)}


def build(rows: list[Row]) -> list[Row]:
    """The index that a build makes, which must be the reference's: returned for further questions."""
    built: list[Row] = by_duckdb(INDEX.statement, source(rows), INDEX.schema.columns).to_pylist()
    expected = reference(rows)
    assert [list(row) for row in built] == [[column.name for column in INDEX.schema.columns]] * len(expected)
    for one, other in zip(built, expected, strict=True):
        degrees, exact = one["obliquity_degrees"], other.pop("obliquity_degrees")
        assert (degrees is None) == (exact is None)
        if degrees is not None:
            # half a step, and what six decimals before that and the ten digits of a cosine may add
            assert degrees == pytest.approx(exact, abs=0.005 + 2e-6)
            assert degrees == round(degrees, 2)
        assert {name: one[name] for name in other} == {
            name: pytest.approx(value, rel=1e-12, abs=1e-9) if isinstance(value, (float, list)) else value
            for name, value in other.items()
        }
    return built


NO_POSITION = {"unique_slice_positions", "consistent_in_plane_row", "consistent_in_plane_col", "uniform_slice_spacing"}
NO_ORIENTATION = NO_POSITION | {"single_orientation", "orthogonal_orientation"}
GOOD = stack()

# Slices, and which of the flags are FALSE of them.
SERIES: dict[str, tuple[list[Row], set[str]]] = {
    "axial": (GOOD, set()),
    "sagittal": (stack(orientation=SAGITTAL), set()),
    "coronal": (stack(orientation=CORONAL), set()),
    "oblique": (stack(orientation=turned(30)), set()),
    "upside down": (stack(orientation=(1, 0, 0, 0, -1, 0)), set()),
    "from head to feet": (GOOD[::-1], set()),
    "tilted gantry": (stack(orientation=turned(15), step=(0, 0, 1)), {"consistent_in_plane_col"}),
    "table moving sideways": (stack(step=(0.1, 0, math.sqrt(0.99))), {"consistent_in_plane_row"}),
    "MR": (stack(SOPClassUID=MR), set()),
    "PET": (stack(SOPClassUID=PT), set()),
    "two slices": (stack(2), set()),
    "two thousand slices": (stack(2000, 0.3, turned(7)), set()),
    "duplicated slice": ([*GOOD, GOOD[3]], {"unique_slice_positions", "uniform_slice_spacing"}),
    "each slice twice": ([*GOOD, *GOOD], {"unique_slice_positions", "uniform_slice_spacing"}),
    "all slices at one place": ([GOOD[0]] * 3, {"unique_slice_positions", "uniform_slice_spacing"}),
    "missing slice": ([*GOOD[:3], *GOOD[4:]], {"uniform_slice_spacing"}),
    "missing end": (GOOD[:-2], set()),
    "mixed orientation": (
        with_slice(GOOD, 2, ImageOrientationPatient=["1", "0.0001", "0", "0", "1", "0"]),
        {"single_orientation"},
    ),
    "scout from the side": (
        [*stack(origin=(0, 0, 0)), instance((0, 0, 0), SAGITTAL)],
        {"single_orientation", "unique_slice_positions", "uniform_slice_spacing"},
    ),
    "mixed pixel spacing": (with_slice(GOOD, 5, PixelSpacing=["0.7", "0.71"]), {"consistent_pixel_spacing"}),
    "mixed rows": (with_slice(GOOD, 5, Rows=256), {"consistent_image_dimensions"}),
    "mixed columns": (with_slice(GOOD, 0, Columns=511), {"consistent_image_dimensions"}),
    "square on its side": (
        stack(3, Rows=512, Columns=256) + stack(3, Rows=256, Columns=512, origin=(-120.5, -80.25, 40.5)),
        {"consistent_image_dimensions"},
    ),
    "numbers written differently": (
        with_slice(
            GOOD,
            4,
            ImageOrientationPatient=["1.0", "0", "-0", " 0e0", "+1 ", "0.000"],
            PixelSpacing=[".7", "7e-1"],
        ),
        set(),
    ),
    # 1 % of the expected spacing, exclusive
    "gap just inside": (moved(stack(9), 4, (0, 0, 0.0249)), set()),
    "gap just outside": (moved(stack(9), 4, (0, 0, 0.0251)), {"uniform_slice_spacing"}),
    "gap below 1 %": (at(0, 100.9999, 200), set()),
    "gap at 1 %": (at(0, 101, 200), {"uniform_slice_spacing"}),
    "small gap at 1 %": (at(0, 99, 200), {"uniform_slice_spacing"}),
    "gap above 1 %": (at(0, 101.0001, 200), {"uniform_slice_spacing"}),
    "small gap above 1 %": (at(0, 98.9999, 200), {"uniform_slice_spacing"}),
    # 0.1 mm, exclusive
    "row just inside": (at(0, 1, 2, x=(0, 0.0999, 0.05)), set()),
    "row at 0.1 mm": (at(0, 1, 2, x=(0, 0.1, 0.05)), {"consistent_in_plane_row"}),
    "row just outside": (moved(GOOD, 7, (0.1001, 0, 0)), {"consistent_in_plane_row"}),
    "column just inside": (moved(GOOD, 7, (0, -0.0999, 0)), set()),
    "column just outside": (moved(GOOD, 7, (0, -0.1001, 0)), {"consistent_in_plane_col"}),
    "drift that adds up": (
        stack(step=(0.01, 0, math.sqrt(0.9999)), spacing=2),
        {"consistent_in_plane_row"},
    ),
    # the length of the normal, inclusive
    "normal of 0.99": (stack(orientation=(1, 0, 0, 0, 0.99, 0)), set()),
    "normal below 0.99": (stack(orientation=(1, 0, 0, 0, 0.9899, 0)), {"orthogonal_orientation"}),
    "normal of 1.01": (stack(orientation=(1.01, 0, 0, 0, 1, 0)), set()),
    "normal above 1.01": (stack(orientation=(1.0101, 0, 0, 0, 1, 0)), {"orthogonal_orientation"}),
    "rows and columns at 80 degrees": (
        stack(orientation=(1, 0, 0, math.cos(math.radians(80)), math.sin(math.radians(80)), 0)),
        {"orthogonal_orientation"},
    ),
    "rows along columns": (
        stack(orientation=(1, 0, 0, 1, 0, 0), step=(0, 0, 1)),
        {"orthogonal_orientation", "unique_slice_positions", "uniform_slice_spacing"},
    ),
    # What is not known makes a flag FALSE.
    **{
        f"position {text}": (with_slice(GOOD, 3, ImagePositionPatient=text), NO_POSITION)
        for text in (None, [], ["1", "2"], ["1", "2", "abc"], ["1", "2", ""], ["1", "nan", "3"], ["1", "2", "2e9"])
    },
    **{
        f"orientation {text}": (with_slice(GOOD, 0, ImageOrientationPatient=text), NO_ORIENTATION)
        for text in (None, ["1", "0", "0"], ["1", "0", "0", "0", "1", "0x0"], ["inf", "0", "0", "0", "1", "0"])
    },
    "no orientation": (stack(ImageOrientationPatient=None), NO_ORIENTATION),
    "no position": (stack(ImagePositionPatient=[]), NO_POSITION),
    "one pixel spacing": (with_slice(GOOD, 0, PixelSpacing=["0.7"]), {"consistent_pixel_spacing"}),
    "no pixel spacing": (stack(PixelSpacing=None), {"consistent_pixel_spacing"}),
    "no rows": (with_slice(GOOD, 0, Rows=None), {"consistent_image_dimensions"}),
    "no columns": (stack(Columns=None), {"consistent_image_dimensions"}),
    "localizer in lower case": (with_slice(GOOD, 0, ImageType=["localizer", "XLOCALIZER", "mip", "M", "IP"]), set()),
    "no image type": (with_slice(GOOD, 0, ImageType=None), set()),
}


@pytest.fixture(scope="module")
def together() -> dict[str, Row]:
    """The rows of all series, which were built at once, their instances in any order."""
    rows = [row for name, (slices, _) in SERIES.items() for row in named(slices, name)]
    random.Random(7).shuffle(rows)
    return {row["SeriesInstanceUID"]: row for row in build(rows)}


@pytest.mark.parametrize("name", SERIES)
def test_series(name: str, together: dict[str, Row]) -> None:
    false, row = SERIES[name][1], together[name]
    assert {flag for flag in FLAGS if row[flag] is False} == false
    assert all(row[flag] for flag in FLAGS - false)
    assert row["regularly_spaced_3d_volume"] == (not false)


@pytest.mark.parametrize(
    ("orientation", "degrees"),
    [(AXIAL, 0), (SAGITTAL, 0), (CORONAL, 0), *((turned(n), n) for n in (1, 15, 30, 44.99)), (turned(60), 30)],
)
def test_obliquity(orientation: Vector, degrees: float) -> None:
    (row,) = build(stack(orientation=orientation))
    assert row["obliquity_degrees"] == degrees


def test_where_a_volume_lies() -> None:
    (row,) = build(stack(4, 3, SAGITTAL, origin=(10, 20, 30))[::-1])
    # the normal of these slices points to the right of the patient, which is -x
    assert row["origin_patient"] == [10, 20, 30]
    assert (row["ImageOrientationPatient"], row["slice_spacing_mm"]) == ([0, 1, 0, 0, 0, -1], 3)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, turned(30), (1, 0, 0, 0, -1, 0)], ids=str)
def test_the_affine_in_the_description_leads_to_every_slice(orientation: Vector) -> None:
    """Slice k, counted along the normal: its first voxel is where its own ImagePositionPatient says."""
    slices = stack(orientation=orientation)
    random.Random(3).shuffle(slices)
    (row,) = build(slices)
    r, c = np.array(row["ImageOrientationPatient"]).reshape(2, 3)
    n = np.cross(r, c)
    positions = np.array([list(map(float, one["ImagePositionPatient"])) for one in slices])
    for k, position in enumerate(positions[np.argsort(positions @ n)]):
        assert np.array(row["origin_patient"]) + k * row["slice_spacing_mm"] * n == pytest.approx(position, abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {"ImagePositionPatient": None}, {"ImageOrientationPatient": None}], ids=str)
def test_one_slice_has_no_gap(changes: Row) -> None:
    """Whether it is a regular volume is open, unless another check says that it is not."""
    (row,) = build([GOOD[0] | changes])
    assert (row["uniform_slice_spacing"], row["regularly_spaced_3d_volume"]) == (None, False if changes else None)
    assert row["unique_slice_positions"] == (not changes)
    assert (row["origin_patient"], row["ImageOrientationPatient"], row["slice_spacing_mm"]) == ([], [], None)


def test_rows_are_in_the_order_true_false_null() -> None:
    rows = build(named(GOOD[:1], "1") + named(GOOD[:2] * 2, "2") + named(GOOD, "4") + named(GOOD, "3"))
    assert [(row["SeriesInstanceUID"], row["regularly_spaced_3d_volume"]) for row in rows] == [
        ("3", True),
        ("4", True),
        ("2", False),
        ("1", None),
    ]


@pytest.mark.parametrize(
    "image_type", [["LOCALIZER"], ["DERIVED", "MIP"], ["A", "MPR MIP (SAG)"], ["XMIPX", ""]], ids=str
)
def test_one_image_that_is_no_slice_leaves_the_series_out(image_type: list[str]) -> None:
    assert [
        row["SeriesInstanceUID"] for row in build(with_slice(GOOD, 6, ImageType=image_type) + named(GOOD, "2"))
    ] == ["2"]


@pytest.mark.parametrize("uid", [ENHANCED_MR, CAPTURE, None])
def test_other_classes_are_not_looked_at(uid: str | None) -> None:
    others = stack(3, SOPClassUID=uid, ImageType=["LOCALIZER"], Rows=1)
    (row,) = build(GOOD + others + named(others, "2"))
    assert row["regularly_spaced_3d_volume"]


def test_each_series_has_one_row(together: dict[str, Row]) -> None:
    assert together.keys() == SERIES.keys()


def test_the_evaluator_agrees() -> None:
    short = {name: slices for name, (slices, _) in SERIES.items() if len(slices) < 100}
    rows = [row for name, slices in short.items() for row in named(slices, name)]
    random.Random(8).shuffle(rows)
    assert_same(INDEX.statement, source(rows), INDEX.schema.columns)


# --- Any place and direction --------------------------------------------------------------------------------

ANGLES = st.floats(-math.pi, math.pi)
LENGTHS = st.floats(-500, 500)
DEFECTS = ["axial", "tilted gantry", "table moving sideways", "duplicated slice", "missing slice", "mixed rows"]
DEFECTS += [
    "gap just inside",
    "gap just outside",
    "mixed pixel spacing",
    "two slices",
    "rows and columns at 80 degrees",
]


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray[Any, Any]:
    """A rotation of the patient: three turns around z, y and x."""
    (cz, cy, cx), (sz, sy, sx) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    turn: np.ndarray[Any, Any] = about_z @ about_y @ about_x
    return turn


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(DEFECTS), st.tuples(ANGLES, ANGLES, ANGLES), st.tuples(LENGTHS, LENGTHS, LENGTHS)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_no_flag_depends_on_where_the_patient_lies(
    drawn: list[tuple[str, tuple[float, float, float], tuple[float, float, float]]], order: random.Random
) -> None:
    rows = []
    for number, (name, angles, shift) in enumerate(drawn):
        turn = rotation(*angles)
        for row in named(SERIES[name][0], str(number)):
            position = turn @ np.array(row["ImagePositionPatient"], dtype=float) + np.array(shift)
            orientation = np.array(row["ImageOrientationPatient"], dtype=float).reshape(2, 3) @ turn.T
            rows.append(
                row | {"ImagePositionPatient": texts(position), "ImageOrientationPatient": texts(orientation.flatten())}
            )
    order.shuffle(rows)
    for row in build(rows):
        name = drawn[int(row["SeriesInstanceUID"])][0]
        assert {flag for flag in FLAGS if row[flag] is False} == SERIES[name][1]

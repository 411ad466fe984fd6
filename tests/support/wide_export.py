"""Write an export whose dicom_all is as wide as the real one: about 2,000 leaf columns, a footer of half a megabyte.

    python -m tests.support.wide_export PACKAGE OUT --shards 300

All seventeen indices can be built from it. What they read comes from ``reference_export``: real series, and made-up
attributes that are plausible. Around it are the columns that nothing reads, in the places where they are in the
public table: IDC's own columns first, in the order of the query that makes the table, then the DICOM attributes in
the order of their tags, nested ones likewise, and private elements at the end. With ``--read-first`` they come last.

What is guaranteed:

* A shard has about ROWS rows in one row group; shards differ in everything that an index reads.
* Records have fields that no index reads, beside those that one does.
* Hashes and identifiers that nothing reads are random, as real ones might be; most other columns are all but empty.
* The same package and options give the same rows and columns.

What is not: what is in the columns that nothing reads means nothing, and is the same every DISTINCT shards. The past
releases, and the tables beside dicom_all, are as narrow as ``reference_export`` writes them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

from idc_indexer.schema.arrow import arrow_field
from idc_indexer.schema.source_tables import dicom_attribute
from tests.support.reference.job import new_table
from tests.support.reference_export import SMALL, export, positive

ROWS, LEAVES, DISTINCT = 9_000, 2_000, 4
DEPTH = 2  # of sequences in sequences
INSTANCES = 58_784_975
"""Rows of dicom_all in release 25."""
CODE = ["CodeValue", "CodingSchemeDesignator", "CodeMeaning"]

TEXT, INT = pa.string(), pa.int64()
Type: TypeAlias = Any  # of Arrow; the stubs know little of nested ones
Array: TypeAlias = Any

# The order of the columns that are IDC's own: that of the query which makes dicom_all,
# https://github.com/ImagingDataCommons/etl_flow (dicom_all.sql). What follows a name is what its values look like;
# "" are columns that the reference export has.
OWN = {
    "collection_name": "5 words",
    "collection_id": "",
    "collection_timestamp": "5 times",
    "collection_hash": "100 hashes",
    "collection_init_idc_version": "20 numbers",
    "collection_revised_idc_version": "20 numbers",
    "collection_tumorLocation": "40 words",
    "collection_species": "3 words",
    "collection_cancerType": "60 words",
    "access": "1 words",
    "PatientID": "",
    "idc_case_id": "5000 uuids",
    "patient_hash": "5000 hashes",
    "patient_init_idc_version": "25 numbers",
    "patient_revised_idc_version": "25 numbers",
    "StudyInstanceUID": "",
    "crdc_study_uuid": "6000 uuids",
    "study_hash": "6000 hashes",
    "study_init_idc_version": "25 numbers",
    "study_revised_idc_version": "25 numbers",
    "SeriesInstanceUID": "",
    "crdc_series_uuid": "",
    "series_gcs_url": "",
    "series_aws_url": "",
    "series_hash": "7500 hashes",
    "series_init_idc_version": "25 numbers",
    "series_revised_idc_version": "25 numbers",
    "SOPInstanceUID": "",
    "crdc_instance_uuid": "",
    "gcs_url": "",
    "gcs_bucket": "",
    "aws_url": "",
    "aws_bucket": "",
    "instance_size": "",
    "instance_hash": "0 hashes",
    "instance_init_idc_version": "25 numbers",
    "instance_revised_idc_version": "25 numbers",
    "Source_DOI": "",
    "Source_URL": "100 words",
    "analysis_result_id": "",
    "license_url": "4 words",
    "license_long_name": "4 words",
    "license_short_name": "",
    "tcia_api_collection_id": "100 words",
    "idc_webapp_collection_id": "100 words",
    "tcia_tumorLocation": "40 words",
    "tcia_species": "3 words",
    "tcia_cancerType": "60 words",
}
# DICOM attributes that most instances have and no index reads: how many different values, 0 for one of its own a row.
COMMON = {
    "MediaStorageSOPClassUID": "40 uids",
    "MediaStorageSOPInstanceUID": "0 uids",
    "ImplementationClassUID": "60 uids",
    "ImplementationVersionName": "40 words",
    "SpecificCharacterSet": "3 words",
    "InstanceCreationTime": "0 numbers",
    "AcquisitionDate": "3000 numbers",
    "ContentDate": "3000 numbers",
    "StudyTime": "6000 numbers",
    "SeriesTime": "7500 numbers",
    "AcquisitionTime": "0 numbers",
    "ContentTime": "0 numbers",
    "InstitutionName": "100 words",
    "StationName": "500 words",
    "DeviceSerialNumber": "1000 numbers",
    "SoftwareVersions": "300 words",
    "ProtocolName": "2000 words",
    "PatientPosition": "4 words",
    "SpacingBetweenSlices": "50 numbers",
    "AcquisitionNumber": "30 numbers",
    "InstanceNumber": "600 numbers",
    "FrameOfReferenceUID": "6500 uids",
    "PositionReferenceIndicator": "10 words",
    "SliceLocation": "0 numbers",
    "SamplesPerPixel": "2 numbers",
    "BitsAllocated": "2 numbers",
    "BitsStored": "3 numbers",
    "HighBit": "3 numbers",
    "SmallestImagePixelValue": "200 numbers",
    "LargestImagePixelValue": "3000 numbers",
    "WindowCenter": "800 numbers",
    "WindowWidth": "900 numbers",
    "RescaleIntercept": "10 numbers",
    "RescaleSlope": "300 numbers",
    "LossyImageCompression": "2 words",
    "PerformedProcedureStepStartDate": "3000 numbers",
    "PerformedProcedureStepStartTime": "6000 numbers",
    "PerformedProcedureStepID": "6000 uids",
}
ELEMENTS = pa.list_(pa.struct([("Tag", TEXT), ("Data", pa.list_(TEXT))]))
LAST = {"OtherElements": ELEMENTS, "DroppedTags": pa.list_(pa.struct([("Tag", TEXT)]))}
PERSON = pa.struct(
    [
        (
            group,
            pa.struct([(part, TEXT) for part in ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")]),
        )
        for group in ("Alphabetic", "Ideographic", "Phonetic")
    ]
)


def lot(text: str) -> int:
    """A number that follows from a text, as good as drawn."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


# --- The columns --------------------------------------------------------------------------------------------


def leaves(kind: Type) -> int:
    """How many leaf columns a column of this type is."""
    if pa.types.is_list(kind):
        return leaves(kind.value_type)
    return sum(leaves(field.type) for field in kind) if pa.types.is_struct(kind) else 1


def attribute(keyword: str, depth: int = 0) -> Type:
    """The type of a DICOM attribute, with fields chosen for a sequence."""
    field = dicom_attribute(keyword)
    assert field, keyword
    if field.type != "RECORD":
        return arrow_field(field).type
    if "CodeSequence" in keyword or depth >= DEPTH:
        names = CODE
    else:
        # Attributes of the same group of tags, some of them sequences again.
        group = by_group()[(tag_for_keyword(keyword) or 0) >> 16]
        names = sorted(group, key=lambda name: lot(f"{keyword} {name}"))[: 2 + lot(keyword) % 6]
        names = ["ReferencedSOPClassUID", "ReferencedSOPInstanceUID", *names]
    return pa.list_(in_order({name: attribute(name, depth + 1) for name in names} | {"OtherElements": ELEMENTS}))


@cache
def by_group() -> dict[int, list[str]]:
    """Keywords of the attributes that tables can hold, by the group of their tags."""
    groups: dict[int, list[str]] = {}
    for tag, (*_, keyword) in DicomDictionary.items():
        if tag >> 16 and keyword and dicom_attribute(keyword):
            groups.setdefault(tag >> 16, []).append(keyword)
    return groups


def in_order(fields: dict[str, Type]) -> Type:
    """A record of DICOM attributes, by tag; what is no attribute comes last."""
    return pa.struct([pa.field(name, fields[name]) for name in sorted(fields, key=place)])


def place(name: str) -> tuple[int, int]:
    """Where the column of a name is in dicom_all."""
    if name in OWN:
        return 0, list(OWN).index(name)
    if name in LAST:
        return 2, list(LAST).index(name)
    return 1, tag_for_keyword(name) or 0xFFFFFFFF


def wider(kind: Type, keyword: str) -> Type:
    """The type of a sequence that is read, with fields beside those that are."""
    if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)):
        return kind
    read = {field.name: wider(field.type, field.name) for field in kind.value_type}
    further = {field.name: field.type for field in attribute(keyword).value_type}
    return pa.list_(in_order({**further, **read}))


def columns(read: pa.Schema, number: int, read_first: bool = False) -> dict[str, Type]:
    """The types of dicom_all's columns in their order, with ``number`` leaf columns or a few more."""
    chosen = {field.name: wider(field.type, field.name) for field in read}
    chosen |= {name: kind_of(values) for name, values in OWN.items() if values}
    chosen |= {name: attribute(name) for name in COMMON} | LAST
    chosen |= dict.fromkeys(("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"), PERSON)
    chosen |= {"PerFrameFunctionalGroupsSequence": attribute("PerFrameFunctionalGroupsSequence")}
    count = sum(map(leaves, chosen.values()))
    every = [keyword for group in by_group().values() for keyword in group]
    for keyword in sorted(every, key=lot):
        if count >= number:
            break
        if keyword not in chosen:
            chosen[keyword] = attribute(keyword)
            count += leaves(chosen[keyword])
    order = (
        [*read.names, *sorted(chosen.keys() - set(read.names), key=place)] if read_first else sorted(chosen, key=place)
    )
    return {name: chosen[name] for name in order}


def kind_of(values: str) -> Type:
    return {"numbers": INT, "times": pa.timestamp("us")}.get(values.split()[1], TEXT)


# --- What is in them ----------------------------------------------------------------------------------------


def hexadecimal(random: np.random.Generator, number: int) -> list[str]:
    text = random.bytes(16 * number).hex()
    return [text[start : start + 32] for start in range(0, len(text), 32)]


# What texts look like.
LOOKS: dict[str, Callable[[np.random.Generator, int], list[str]]] = {
    "hashes": hexadecimal,
    "uuids": lambda random, number: [str(uuid.UUID(text)) for text in hexadecimal(random, number)],
    "uids": lambda random, number: [f"1.3.6.1.4.1.14519.5.2.1.{int(text, 16)}" for text in hexadecimal(random, number)],
    "words": lambda random, number: [f"value {text[:6]}" for text in hexadecimal(random, number)],
    "numbers": lambda random, number: [f"{value:.2f}" for value in random.normal(0, 300, number)],
    "private": lambda random, number: [
        f"{text[:8]}\\{value:.4f}"
        for text, value in zip(hexadecimal(random, number), random.random(number), strict=True)
    ],
}


def leaf(kind: Type, random: np.random.Generator, look: str, number: int) -> Array:
    """``number`` values."""
    if kind == TEXT:
        return pa.array(LOOKS[look](random, number), kind)
    if pa.types.is_floating(kind):
        return pa.array(random.normal(0, 300, number).round(3), kind)
    most = {pa.date32(): 20_000, pa.time64("us"): 86_400_000_000}.get(
        kind, 1 << 50 if pa.types.is_timestamp(kind) else 4096
    )
    return pa.array(random.integers(0, most, number), INT).cast(pa.int32() if kind == pa.date32() else INT).cast(kind)


def fill(
    kind: Type, random: np.random.Generator, rows: int, look: str, different: int, present: float, items: int = 2
) -> Array:
    """``rows`` values, ``present`` of them not NULL, of at most ``different`` ones; arrays have up to ``items``."""
    if not present or not rows:
        return pa.nulls(rows, kind)
    there = random.random(rows) < present
    if pa.types.is_list(kind):
        lengths = np.where(there, random.integers(1, items + 1, rows), 0)
        offsets = pa.array(np.cumsum([0, *lengths]), pa.int32())
        within = fill(kind.value_type, random, int(lengths.sum()), look, different, 1, 2)
        return pa.ListArray.from_arrays(offsets, within, type=kind, mask=pa.array(~there))
    if pa.types.is_struct(kind):
        within = [fill(field.type, random, rows, look, different, 0.9, 1) for field in kind]
        return pa.StructArray.from_arrays(within, fields=list(kind), mask=pa.array(~there))
    made = leaf(kind, random, look, min(different or rows, rows))
    # One of its own for each row, or one of some.
    rank = random.integers(0, len(made), rows) if different else np.arange(rows)
    return made.take(pa.array(rank, mask=~there))


def template(kinds: Mapping[str, Type], rows: int, seed: int) -> dict[str, Array]:
    """The columns that no index reads, with ``rows`` rows."""
    made = {}
    for name, kind in kinds.items():
        random = np.random.default_rng([seed, lot(name)])
        if values := OWN.get(name) or COMMON.get(name):
            number, look = values.split()
            made[name] = fill(kind, random, rows, look, int(number), 1)
        elif name == "OtherElements":
            made[name] = fill(kind, random, rows, "private", 0, 0.9, items=40)
        elif name == "PerFrameFunctionalGroupsSequence":
            made[name] = fill(kind, random, rows, "numbers", 200, 0.02, items=60)
        else:
            # Most attributes belong to kinds of instances of which a shard has few, or none.
            share = 0.3 if lot(name) % 50 == 0 else (0, 0, 0, 0, 0, 0, 0.0005, 0.0005, 0.005, 0.03)[lot(name) % 10]
            made[name] = fill(kind, random, rows, "words", 5 + lot(name) % 40, share)
    return made


# --- The export ---------------------------------------------------------------------------------------------


def widen(narrow: Path, wide: Path, number: int = LEAVES, read_first: bool = False) -> None:
    """Write every shard of ``narrow`` to the folder ``wide``, with ``number`` leaf columns or a few more."""
    shards = sorted(narrow.glob("*.parquet"))
    most = max(pq.read_metadata(shard).num_rows for shard in shards)
    read = pq.read_schema(shards[0])
    kinds = columns(read, number, read_first)
    unread = {name: kind for name, kind in kinds.items() if name not in read.names}
    templates = [template(unread, most, seed) for seed in range(min(DISTINCT, len(shards)))]
    with new_table(wide) as unfinished:
        for order, shard in enumerate(shards):
            rows = pq.read_table(shard).combine_chunks()
            further = templates[order % DISTINCT]
            made = {
                name: rows[name].cast(kind) if name in read.names else further[name].slice(0, rows.num_rows)
                for name, kind in kinds.items()
            }
            # What BigQuery writes holds no Arrow schema.
            pq.write_table(pa.table(made), unfinished / shard.name, compression="zstd", store_schema=False)


def wide_export(
    package: Path,
    out: Path,
    *,
    shards: int = 300,
    number: int = LEAVES,
    read_first: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write release 25 to ``out``, with ``shards`` wide shards, and its past releases.

    Raises:
        FileExistsError: a table is already there.
    """
    one_in = max(round(INSTANCES / ROWS / shards), 1)
    make = partial(export, package, one_in=one_in, report=report)
    with tempfile.TemporaryDirectory(dir=out.parent) as narrow:
        make(Path(narrow), shards=shards, tables=["dicom_all"])
        start = time.monotonic()
        widen(Path(narrow, "idc_v25", "dicom_all"), out / "idc_v25" / "dicom_all", number, read_first)
        report(f"dicom_all, wide: {time.monotonic() - start:.1f} s")
    make(out, shards=-(-shards // 10), tables=["dicom_metadata_curated", "auxiliary_metadata"])
    make(out, shards=1, tables=[*sorted(SMALL), "past_releases"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write an export with a dicom_all as wide as the real one.")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="wheel of idc-index-data 25, or its folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to put idc_vNN folders into")
    parser.add_argument("--shards", type=positive, default=300, metavar="S", help="of dicom_all (default: 300)")
    parser.add_argument("--leaves", type=positive, default=LEAVES, metavar="L", help=f"(default: {LEAVES})")
    parser.add_argument("--read-first", action="store_true", help="put the columns that are read before all others")
    options = vars(parser.parse_args(arguments))
    options["number"] = options.pop("leaves")
    try:
        wide_export(options.pop("package"), options.pop("out"), report=print, **options)
    except (OSError, ValueError, duckdb.Error) as error:
        sys.exit(f"wide_export: {error}")


if __name__ == "__main__":
    main()

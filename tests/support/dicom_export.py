"""An export of IDC's tables made from DICOM files, as an exporter that knows DICOM and BigQuery would make it.

    instances = read_instances(files)
    write_export(folder, instances, read_too=[("SegmentSequence", "SegmentNumber"), ...])

The type of every column comes from VR and VM of the attribute in pydicom's dictionary, by the rule that IDC's tables
follow; the value comes from the file, as pydicom reads it. So a test that compares an index with the files passes
through encodings and nested sequences as they are, and through no declaration of the toolkit's.

What IDC adds to the files (its identifiers, addresses, versions) is invented here, for each instance on its own.

Where it is open what an export holds, the shards differ: in the first, an array without elements is `[]`, and of two
columns that are said to hold empty strings, text that is missing is one; in the others both are NULL. Other text is
NULL where the file has but padding, and no text has padding: so it is in the published index.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pyarrow as pa
import pyarrow.parquet as pq
from pydicom import Dataset
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.valuerep import DA, DT, TM, PersonName

from tests.support.dicom_objects import read

RELEASE = 25
SHARDS = 3
DERIVED = {"SEG": "pydicom-segmentations", "ANN": "pydicom-annotations", "RTSTRUCT": "pydicom-contours"}
"""The analysis result that objects of a modality belong to."""
BLANK = ("PatientAge", "SeriesDescription")
"""The columns that may hold empty strings."""

# --- Instances ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instance:
    """A file of IDC's, and what IDC's tables say of it besides its attributes.

    Attributes:
        number: its place among all, from 0.
    """

    path: Path
    number: int
    dataset: Dataset

    @property
    def transfer_syntax(self) -> str:
        return str(self.dataset.file_meta.TransferSyntaxUID)

    @cached_property
    def added(self) -> dict[str, Any]:
        """The columns of dicom_all that are no attributes of the file."""
        series = str(uuid5(NAMESPACE_OID, self.dataset.SeriesInstanceUID))
        uuid = str(uuid5(NAMESPACE_OID, self.dataset.SOPInstanceUID))
        modality = self.dataset.get("Modality") or ""
        bucket = "idc-open-data-two" if modality in DERIVED else "idc-open-data"
        return {
            "collection_id": f"pydicom_{modality or 'unknown'}".lower(),
            "analysis_result_id": DERIVED.get(modality),
            "Source_DOI": f"10.{self.number % 2}/{modality.lower()}",
            "license_short_name": "CC BY 4.0" if self.number % 3 else "CC BY-NC 4.0",
            "gcs_url": f"gs://{bucket}/{series}/{uuid}.dcm",
            "gcs_bucket": bucket,
            "aws_url": f"s3://{bucket}/{series}/{uuid}.dcm",
            "aws_bucket": bucket,
            "series_gcs_url": f"gs://{bucket}/{series}/",
            "series_aws_url": f"s3://{bucket}/{series}/",
            "crdc_series_uuid": series,
            "crdc_instance_uuid": uuid,
            "instance_size": self.path.stat().st_size,
            "collection_timestamp": datetime(2026, 1, 2, 3, 4, 5),
        }

    @property
    def curated_body_part(self) -> str | None:
        """What dicom_metadata_curated says of the body part: harmonized, and not of every instance."""
        part = str(self.dataset.get("BodyPartExamined") or "").strip().upper()
        return part if part and self.number % 4 else None

    @property
    def in_side_tables(self) -> bool:
        """Whether the side tables say anything of the instance: of reports, for instance, they do not."""
        return bool(self.dataset.get("Modality") != "SR")

    @property
    def versions(self) -> tuple[int, int]:
        """The first release that had the series, and the one in which it last changed, as auxiliary_metadata says."""
        return 5 + self.number % 7, 12 + self.number % 11


def read_instances(files: Path) -> list[Instance]:
    """The objects in a folder, in an order that tears series apart."""
    paths = sorted(files.glob("*.dcm"), key=lambda path: zlib.crc32(path.name.encode()))
    return [Instance(path, number, read(path)) for number, path in enumerate(paths)]


# --- Types --------------------------------------------------------------------------------------------------

TEXT = pa.string()
_BY_VR: dict[str, pa.DataType] = {
    **dict.fromkeys(["AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT", "DS", "IS"], TEXT),
    **dict.fromkeys(["US", "UL", "SS", "SL", "AT"], pa.int64()),
    **dict.fromkeys(["FL", "FD"], pa.float64()),
    "DA": pa.date32(),
    "TM": pa.time64("us"),
    "DT": pa.timestamp("us", tz="UTC"),
    "PN": pa.struct([("Alphabetic", TEXT), ("Ideographic", TEXT), ("Phonetic", TEXT)]),
}
_ADDED = {"instance_size": pa.int64(), "collection_timestamp": pa.timestamp("us")}

Attributes = dict[str, "Attributes"]
"""Keywords, each with those inside it when it is a sequence."""


def attributes_of(datasets: Iterable[Dataset]) -> Attributes:
    """All attributes that occur and have a name, which private ones do not."""
    found: Attributes = {}
    for dataset in datasets:
        for element in dataset:
            if element.keyword and not element.tag.is_private:
                inside = attributes_of(element.value) if element.VR == "SQ" else {}
                _merge(found, {element.keyword: inside})
    return found


def _merge(one: Attributes, other: Attributes) -> None:
    for keyword, inside in other.items():
        _merge(one.setdefault(keyword, {}), inside)


def column_type(keyword: str, inside: Attributes) -> pa.DataType | None:
    """Type of the column that an attribute becomes.

    Returns:
        None for what the tables do not hold: binary values, and sequences of which nothing is known.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        return None
    vr = dictionary_VR(tag)
    if vr == "SQ":
        fields = fields_of(inside)
        return pa.list_(pa.struct(fields)) if fields else None
    kinds = {_BY_VR.get(part) for part in vr.split(" or ")}  # "US or SS" is one or the other: an integer
    kind = kinds.pop()
    if kind is None or kinds:
        return None
    return kind if dictionary_VM(tag) == "1" else pa.list_(kind)


def fields_of(attributes: Attributes) -> list[pa.Field[Any]]:
    """The columns, or the fields of a record, that attributes become."""
    types = {keyword: column_type(keyword, inside) for keyword, inside in sorted(attributes.items())}
    return [pa.field(keyword, kind) for keyword, kind in types.items() if kind is not None]


# --- Values -------------------------------------------------------------------------------------------------


def _record(dataset: Dataset, fields: Iterable[pa.Field[Any]], none: list[Any] | None) -> dict[str, Any]:
    """Args:
    none: what stands for an array without elements.
    """
    return {field.name: _cell(_element(dataset, field.name), field.type, none) for field in fields}


def _element(dataset: Dataset, keyword: str) -> DataElement | None:
    tag = tag_for_keyword(keyword)
    return None if tag is None else dataset.get(tag)


def _cell(element: DataElement | None, kind: Any, none: list[Any] | None) -> Any:
    repeated = pa.types.is_list(kind)
    if element is None or element.is_empty:
        return none if repeated else None
    if element.VR == "SQ":
        return [_record(item, kind.value_type, none) for item in element.value]
    if repeated:
        values = element.value if element.VM > 1 else [element.value]
        scalars = [_scalar(value, kind.value_type, element.VR) for value in values]
        # An array holds no NULL. Where one value of several is empty, the places of the others still count.
        if pa.types.is_string(kind.value_type):
            return [value or "" for value in scalars] if any(scalars) else none
        return [value for value in scalars if value is not None]
    if element.VM > 1:
        raise ValueError(f"{element.keyword} has {element.VM} values: there is no telling what an exporter does")
    return _scalar(element.value, kind, element.VR)


def _scalar(value: Any, kind: pa.DataType, vr: str) -> Any:
    if pa.types.is_string(kind):
        text = str(getattr(value, "original_string", value))
        return (text.rstrip("\0 ") if vr in ("LT", "ST", "UT") else text.strip("\0 ")) or None
    # Dates and times of old and broken files are no dates and times.
    with contextlib.suppress(ValueError):
        return _READERS[kind](value)
    return None


def _person(value: Any) -> dict[str, str]:
    name = PersonName(value)
    return {"Alphabetic": name.alphabetic, "Ideographic": name.ideographic, "Phonetic": name.phonetic}


def _date(value: Any) -> date | None:
    day = DA(str(value))
    return day and date(day.year, day.month, day.day)


def _time(value: Any) -> time | None:
    moment = TM(str(value))
    return moment and time(moment.hour, moment.minute, moment.second, moment.microsecond)


def _timestamp(value: Any) -> datetime | None:
    instant = DT(str(value))
    return instant and datetime(*instant.timetuple()[:6], instant.microsecond, instant.tzinfo or timezone.utc)


_READERS: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.int64(): int,
    pa.float64(): float,
    _BY_VR["DA"]: _date,
    _BY_VR["TM"]: _time,
    _BY_VR["DT"]: _timestamp,
    _BY_VR["PN"]: _person,
}


# --- Tables -------------------------------------------------------------------------------------------------


def dicom_all(instances: Sequence[Instance], read_too: Iterable[Sequence[str]] = ()) -> list[pa.Table]:
    """The shards of dicom_all, all of one schema.

    Args:
        read_too: paths of keywords that get a column even if no file has them.
    """
    attributes = attributes_of(instance.dataset for instance in instances)
    for path in read_too:
        inside: Attributes = {}
        for keyword in reversed(path):
            inside = {keyword: inside}
        _merge(attributes, inside)
    # Of the header of the file, the tables have the transfer syntax.
    fields = [field for field in fields_of(attributes) if field.name != "TransferSyntaxUID"]
    added = [pa.field(name, _ADDED.get(name, TEXT)) for name in instances[0].added]
    schema = pa.schema([*added, pa.field("TransferSyntaxUID", TEXT), *fields])
    shards = []
    for number in range(SHARDS):
        rows = [
            {
                **_record(instance.dataset, fields, [] if number == 0 else None),
                **instance.added,
                "TransferSyntaxUID": instance.transfer_syntax,
            }
            for instance in instances[number::SHARDS]
        ]
        if number == 0:
            for row in rows:
                row |= {name: row[name] or "" for name in BLANK if name in schema.names}
        shards.append(pa.Table.from_pylist(rows, schema))
    return shards


def side_tables(instances: Iterable[Instance]) -> dict[str, pa.Table]:
    """dicom_metadata_curated and auxiliary_metadata: one row per instance, with NULLs for some."""
    uids = pa.schema([("SOPInstanceUID", TEXT), ("SeriesInstanceUID", TEXT)])
    curated, auxiliary = [], []
    for instance in instances:
        key = {name: instance.dataset[name].value for name in uids.names}
        first, last = instance.versions if instance.in_side_tables else (None, None)
        part = instance.curated_body_part if instance.in_side_tables else None
        curated.append(key | {"BodyPartExamined": part})
        auxiliary.append(key | {"series_init_idc_version": first, "series_revised_idc_version": last})
    more = [("BodyPartExamined", TEXT), ("SliceThickness", pa.float64())]
    versions = [("series_init_idc_version", pa.int64()), ("series_revised_idc_version", pa.int64())]
    return {
        "dicom_metadata_curated": pa.Table.from_pylist(curated, pa.schema([*uids, *more])),
        "auxiliary_metadata": pa.Table.from_pylist(auxiliary, pa.schema([*uids, *versions])),
    }


def write_export(folder: Path, instances: Sequence[Instance], read_too: Iterable[Sequence[str]] = ()) -> None:
    """Write the three tables as BigQuery exports them: `idc_v25/<table>/000000000000.parquet` and so on."""
    tables: Mapping[str, list[pa.Table]] = {
        "dicom_all": dicom_all(instances, read_too),
        **{name: [table] for name, table in side_tables(instances).items()},
    }
    for name, shards in tables.items():
        for number, shard in enumerate(shards):
            path = folder / f"idc_v{RELEASE}" / name / f"{number:012}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(shard, path, compression="zstd", write_time_adjusted_to_utc=True)

"""The small tables: collections, analysis results, releases, and what is in the clinical tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.reference.job import Export, new_table

# The first releases that spell columns so, and that tell the provenance.
SNAKE_CASE = 24
WITH_PROVENANCE = 25

INT, TEXT, DATE = pa.int64(), pa.string(), pa.date32()


def texts(*names: str) -> list[pa.Field[Any]]:
    return [pa.field(name, TEXT) for name in names]


LICENSE = texts("license_url", "license_long_name", "license_short_name")
PROVENANCE = pa.field(
    "provenance",
    pa.struct(texts("data_contributor", "source_data_provider", "deidentification_party", "dicom_conversion_by")),
)
# Different spellings of one column, beyond case and underscores.
SAME = {"program": "programid", "id": "analysisresultid", "title": "analysisresulttitle"}


def original_collections_schema(spelling: int) -> pa.Schema:
    """The columns of original_collections_metadata in release ``spelling``."""
    if spelling < SNAKE_CASE:
        sources = [
            *texts("Access", "Citation", "ImageTypes"),
            pa.field("license", pa.struct(LICENSE)),
            *texts("source_doi", "source_url"),
        ]
        return pa.schema(
            [
                *texts("collection_name", "collection_id", "CancerTypes", "TumorLocations"),
                pa.field("Subjects", INT),
                *texts("Species"),
                pa.field("Sources", pa.list_(pa.struct(sources))),
                *texts("SupportingData", "Program", "Status"),
                pa.field("Updated", DATE),
                *texts("Description"),
            ]
        )
    sources = [
        *texts("source_id", "source_title", "source_type", "source_doi", "source_url", "modalities"),
        pa.field("license", pa.struct(LICENSE)),
        *texts("citation"),
        *([PROVENANCE] if spelling >= WITH_PROVENANCE else []),
        *texts("Access", "ImageTypes"),
    ]
    return pa.schema(
        [
            *texts("collection_name", "collection_id", "cancer_types", "tumor_locations"),
            pa.field("subjects", INT),
            *texts("species"),
            pa.field("sources", pa.list_(pa.struct(sources))),
            *texts("supporting_data", "program_id", "status"),
            pa.field("updated", DATE),
            *texts("description"),
        ]
    )


def analysis_results_schema(spelling: int) -> pa.Schema:
    """The columns of analysis_results_metadata in release ``spelling``."""
    if spelling < SNAKE_CASE:
        return pa.schema(
            [
                *texts("ID", "Title", "source_doi", "source_url"),
                pa.field("Subjects", INT),
                *texts("Collections", "Modalities"),
                pa.field("Updated", DATE),
                *LICENSE,
                *texts("Description", "Citation"),
            ]
        )
    return pa.schema(
        [
            *texts("analysis_result_id", "analysis_result_title", "source_doi", "source_url"),
            pa.field("subjects", INT),
            *texts("collections", "modalities"),
            pa.field("updated", DATE),
            *LICENSE,
            *texts("description", "citation"),
            *([PROVENANCE] if spelling >= WITH_PROVENANCE else []),
        ]
    )


def same_name(name: str) -> str:
    plain = name.replace("_", "").lower()
    return SAME.get(plain, plain)


def respell(value: Any, fields: Iterable[pa.Field[Any]]) -> dict[str, Any]:
    """A record under the names and with the types of ``fields``, nested records likewise."""
    have = {same_name(name): item for name, item in value.items()}
    return {field.name: retype(have.get(same_name(field.name)), field.type) for field in fields}


def retype(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pa.ListType):
        return [retype(item, kind.value_type) for item in value]
    if isinstance(kind, pa.StructType):
        return respell(value, kind)
    return date.fromisoformat(value) if kind == DATE else value


def write_small(job: Export, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with new_table(job.folder(table)) as unfinished:
        pq.write_table(
            pa.Table.from_pylist([respell(row, schema) for row in rows], schema),
            unfinished / f"{0:012}.parquet",
            compression="zstd",
        )


def read_index(job: Export, index: str) -> list[dict[str, Any]]:
    return pq.read_table(job.package / f"{index}.parquet").to_pylist()


def write_original_collections_metadata(job: Export) -> None:
    schema = original_collections_schema(job.spelling)
    rows = read_index(job, "collections_index")
    for row in rows:
        for name, value in row.items():
            if same_name(name) == "supportingdata" and value is None:
                row[name] = ""
    write_small(job, "original_collections_metadata", rows, schema)


def write_analysis_results_metadata(job: Export) -> None:
    schema = analysis_results_schema(job.spelling)
    write_small(job, "analysis_results_metadata", read_index(job, "analysis_results_index"), schema)


def write_version_metadata(job: Export) -> None:
    rows = read_index(job, "version_metadata_index")
    for row in rows:
        row["version_hash"] = hashlib.sha256(f"release {row['idc_version']}".encode()).hexdigest()
    schema = pa.schema([pa.field("idc_version", INT), *texts("version_hash", "version_timestamp")])
    write_small(job, "version_metadata", rows, schema)


# --- Clinical data ------------------------------------------------------------------------------------------

CLINICAL = "bigquery-public-data.idc_v{release}_clinical."
OPTIONS = pa.struct(texts("option_code", "option_description"))
COLUMN_METADATA = pa.schema(
    [
        *texts("collection_id", "case_col", "table_name", "column", "column_label", "data_type"),
        pa.field("original_column_headers", pa.list_(TEXT)),
        pa.field("values", pa.list_(OPTIONS)),
        *texts("values_source"),
    ]
)
# Name, label, type and options (code and description) of columns of clinical tables.
CLINICAL_COLUMNS: list[tuple[str, str | None, str, list[tuple[str | None, str | None]] | None]] = [
    ("dicom_patient_id", "idc_provenance_dicom_patient_id", "String", []),
    ("source_batch", "idc_provenance_source_batch", "Integer", [("0", None)]),
    ("age_at_diagnosis", "Age at diagnosis (years)", "Float", None),
    ("gender", "Gender", "String", [("F", "Female"), ("M", "Male"), ("", "Not reported")]),
    ("race", "", "String", [("white", None), ("black or african american", None), ("asian", None)]),
    ("ajcc_stage", "AJCC stage: 7th edition", "String", [("Stage IA", ""), ("Stage IV", "")]),
    ("er_status", None, "Integer", [("0", "Negative, < 1 %"), ("1", "Positive"), (None, "Unknown: not tested")]),
    ("vital_status", "Überleben", "String", [("Alive", None), ("Dead", None)]),
    ("days_to_death", "Days to death", "Integer", []),
    ("column_1", "", "String", None),
]


def write_column_metadata(job: Export) -> None:
    """Write what is in the clinical tables: three collections of four have one or two, of other columns each."""
    rows = []
    for number, collection in enumerate(sorted(row["collection_id"] for row in read_index(job, "collections_index"))):
        for kind in ("clinical", "follow_up")[: number % 4]:
            for place, (column, label, data_type, options) in enumerate(CLINICAL_COLUMNS):
                if place > 0 and (place + number) % 3 == 0:
                    continue
                values = None
                if options is not None:
                    values = [{"option_code": code, "option_description": text} for code, text in options]
                row = {
                    "collection_id": collection,
                    "case_col": "yes" if place == 0 else "no",
                    "table_name": f"{CLINICAL.format(release=job.idc_version)}{collection}_{kind}",
                    "column": column,
                    "column_label": label,
                    "data_type": data_type,
                    "original_column_headers": [] if column.startswith("dicom") else [column.upper()],
                    "values": values,
                    "values_source": "derived from the data" if options else None,
                }
                rows.append(row)
    # The source is in no order.
    rows.sort(key=lambda row: hashlib.sha256(f"{row['table_name']} {row['column']}".encode()).digest())
    write_small(job, "column_metadata", rows, COLUMN_METADATA)

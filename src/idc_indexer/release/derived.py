"""Derived tables: what a release holds besides its indices, derived from its idc_index.

* `tcia_idc_subset`: idc_index with six columns, row by row.
* `gdc_idc_mapping`: the studies of GDC-related collections, with the GDC cases of their patients.
* `idc_index.csv.zip`: idc_index as text.

The first and the last depend on idc_index alone; the bytes of the zip also depend on the version of zlib. The mapping
depends on the answers of the GDC, and is complete as of the time of the build.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from idc_indexer import files
from idc_indexer.duckdb_session import connect, first_line, first_row, quote_name, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.release.gdc import Gdc
from idc_indexer.release.parquet import Written
from idc_indexer.schema.arrow import arrow_schema
from idc_indexer.schema.table import Schema

IDC_INDEX = "idc_index"
TCIA = "tcia_idc_subset"
GDC = "gdc_idc_mapping"
CSV = "idc_index.csv"

_RELATED = "regexp_matches(collection_id, '^(tcga|cgci|cddp_eagle|hcmi)|apollo|cptac|ccdi')"
_WITHOUT_CASES = ("cptac_cm", "cptac_sar")
"""Collections without cases in the GDC. That another one has none is a mistake: of the request, or of the GDC."""
_STUDY = "collection_id, PatientID, StudyInstanceUID, StudyDate, StudyDescription, study_type"
_STUDIES = f"""
    SELECT collection_id, PatientID, StudyInstanceUID,
        min(StudyDate) AS StudyDate, min(StudyDescription) AS StudyDescription,
        CASE WHEN bool_or(Modality = 'SM') THEN 'M' ELSE 'R' END AS study_type
    FROM idc_index WHERE {_RELATED} GROUP BY collection_id, PatientID, StudyInstanceUID"""


def rows(name: str, schema: Schema, index: Path, gdc: Gdc) -> Iterator[pa.RecordBatch]:
    """The rows of a derived table, in its order.

    Args:
        name: `tcia_idc_subset` or `gdc_idc_mapping`.
        schema: of that table.
        index: the Parquet of idc_index.

    Raises:
        IndexerError: idc_index lacks a column or cannot be read, or the GDC's answer is not complete.
    """
    names = [column.name for column in schema.columns]
    try:
        if name == GDC:
            yield from _mapping(schema, index, gdc)
        else:
            with pq.ParquetFile(index) as parquet_file:
                for batch in parquet_file.iter_batches(columns=names):
                    yield batch.select(names)
    except (duckdb.Error, pa.ArrowException, KeyError) as error:
        raise IndexerError(f"{name} cannot be made from {index.name}: {error}") from error


def _mapping(schema: Schema, index: Path, gdc: Gdc) -> Iterator[pa.RecordBatch]:
    with connect() as connection:
        connection.execute(f"CREATE VIEW {IDC_INDEX} AS FROM {read_parquet([str(index)])}")
        in_order = f"{_STUDIES} ORDER BY collection_id, PatientID, StudyInstanceUID"
        studies = connection.sql(in_order).to_arrow_reader().read_all().to_pylist()
    for collection, group in groupby(studies, lambda study: study["collection_id"]):
        of_collection = list(group)
        cases = gdc.cases(collection, sorted({study["PatientID"] for study in of_collection if study["PatientID"]}))
        if not cases and collection not in _WITHOUT_CASES:
            raise IndexerError(
                f"{GDC}: the GDC has no case of any patient of {collection}",
                "The mapping would not be complete. Only of "
                + " and ".join(_WITHOUT_CASES)
                + " does the GDC have no case.",
            )
        found = [study | {"gdc_case_id": cases[p]} for study in of_collection if (p := study["PatientID"]) in cases]
        yield pa.RecordBatch.from_pylist(found, schema=arrow_schema(schema.columns))


def write_csv(index: Path, path: Path) -> Written:
    """Write idc_index as a zipped CSV, atomically.

    The first line has the names of the columns. Text is in quotes and NULL is an empty field without quotes, so a
    reader can tell an empty text from NULL.

    Args:
        index: the Parquet of idc_index.

    Raises:
        IndexerError: a column cannot be text, or the file not be written.
    """
    # A zip stores the time of its members and the system that made it. Constants keep its bytes the same.
    member = zipfile.ZipInfo(CSV, (1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    try:
        with (
            pq.ParquetFile(index) as parquet_file,
            files.atomic_path(path) as temporary,
            zipfile.ZipFile(temporary, "w") as archive,
            # the size is not known beforehand, and may exceed 4 GiB
            archive.open(member, "w", force_zip64=True) as text,
            csv.CSVWriter(text, parquet_file.schema_arrow) as writer,
        ):
            rows = parquet_file.metadata.num_rows
            for batch in parquet_file.iter_batches():
                writer.write_batch(batch)
    except pa.ArrowException as error:
        raise IndexerError(f"{CSV} cannot be made from {index.name}: {error}") from error
    return Written(rows, path.stat().st_size, files.sha256(path))


def table_problems(connection: duckdb.DuckDBPyConnection, name: str) -> Iterator[str]:
    """How a derived table differs from what idc_index says.

    Args:
        connection: has views of both, with the column `file_row_number`.
    """
    try:
        if name == TCIA:
            columns = [column for column, *_ in connection.execute(f"DESCRIBE {name}").fetchall()]
            if _digest(connection, name, columns) != _digest(connection, IDC_INDEX, columns):
                yield "has other rows than idc_index"
        elif name == GDC:
            yield from _mapping_problems(connection)
    except (duckdb.Error, ValueError, OverflowError, MemoryError) as error:
        yield f"cannot be compared with idc_index: {first_line(error)}"


def _mapping_problems(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    patient = "collection_id, PatientID"
    for message, sql in {
        "differ from what idc_index says of the study": f"SELECT {_STUDY} FROM {GDC} EXCEPT {_STUDIES}",
        "are missing: studies of patients who have others here": f"""
            SELECT * FROM ({_STUDIES}) AS study
            WHERE EXISTS (FROM {GDC} AS m WHERE (m.collection_id, m.PatientID) = (study.collection_id, study.PatientID))
                AND NOT EXISTS (FROM {GDC} AS m WHERE m.StudyInstanceUID = study.StudyInstanceUID)""",
        "stand for patients with two cases": f"""
            SELECT {patient} FROM {GDC} GROUP BY ALL HAVING count(DISTINCT gdc_case_id) > 1""",
        "stand for cases with two patients": f"""
            SELECT collection_id, gdc_case_id FROM {GDC} GROUP BY ALL HAVING count(DISTINCT PatientID) > 1""",
        "are missing: collections that have cases": f"""
            SELECT DISTINCT collection_id FROM idc_index WHERE {_RELATED} AND collection_id NOT IN {_WITHOUT_CASES}
                AND collection_id NOT IN (SELECT collection_id FROM {GDC})""",
    }.items():
        wrong = first_row(connection, f"SELECT count(*) OVER (), * FROM ({sql}) ORDER BY ALL LIMIT 1")
        if wrong:
            yield f"{wrong[0]} rows {message}, such as {', '.join(map(str, wrong[1:]))}"


def csv_problems(connection: duckdb.DuckDBPyConnection, path: Path, rows: int) -> Iterator[str]:
    """How the zipped CSV differs from idc_index.

    Args:
        connection: has a view of idc_index, with the column `file_row_number`.
        rows: the count in the manifest.
    """
    schema = connection.sql(f"SELECT * EXCLUDE file_row_number FROM {IDC_INDEX} LIMIT 0").to_arrow_reader().schema
    options = csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != [CSV]:
                yield f"holds {', '.join(archive.namelist())} instead of {CSV}"
                return
            with archive.open(CSV) as text:
                parse = csv.ParseOptions(newlines_in_values=True)
                reader = csv.open_csv(text, parse_options=parse, convert_options=options)
                if reader.schema.names != schema.names:
                    yield f"has the columns {', '.join(reader.schema.names)}"
                    return
                connection.register("csv", _numbered(reader))
                written, expected = (_digest(connection, table, schema.names) for table in ("csv", IDC_INDEX))
                if not written[0] == expected[0] == rows:
                    yield f"has {written[0]} rows, in the manifest {rows}, idc_index {expected[0]}"
                elif written != expected:
                    yield "has other rows than idc_index"
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, pa.ArrowException, duckdb.Error, ValueError) as error:
        yield f"cannot be read: {first_line(error)}"


def _numbered(batches: csv.CSVStreamingReader) -> pa.RecordBatchReader:
    """The batches, with the row number that DuckDB gives the rows of a Parquet file."""

    def number() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in batches:
            yield batch.append_column("file_row_number", pa.array(range(row, row + batch.num_rows), pa.int64()))
            row += batch.num_rows

    return pa.RecordBatchReader.from_batches(batches.schema.append(pa.field("file_row_number", pa.int64())), number())


def _digest(connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[str]) -> tuple[int, int]:
    """The number of rows, and a digest of them and their order, computed in constant memory."""
    listed = ", ".join(map(quote_name, dict.fromkeys((*columns, "file_row_number"))))
    count, digest = connection.execute(f"SELECT count(*), sum(hash({listed})) FROM {table}").fetchall()[0]
    return count, digest

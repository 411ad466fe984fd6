"""Time and memory of `build idc_index` against the plain way to make the same table: one DuckDB statement.

    python -m tests.support.reference_export PACKAGE EXPORT --shards 64
    python scripts/benchmark.py EXPORT

Both read the same files and run in turn, each as a process of its own, so that a machine that is slow for a while is
slow for both. What is printed is the median of the runs, and the ratios of the medians. That both made the same table
is checked. Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import sqlglot
from sqlglot import exp

ROOT = Path(__file__).resolve().parent.parent
FIRST = [
    *["collection_id", "analysis_result_id", "PatientID", "StudyInstanceUID", "Source_DOI", "PatientSex"],
    *["StudyDescription", "Modality", "SOPClassUID", "Manufacturer", "ManufacturerModelName", "SeriesNumber"],
    *["license_short_name", "aws_bucket", "crdc_series_uuid"],
]

PLAIN = """
    COPY (
        SELECT d.SeriesInstanceUID, {first},
            any_value(nullif(d.PatientAge, '')) AS PatientAge,
            any_value(nullif(d.SeriesDescription, '')) AS SeriesDescription,
            any_value(d.StudyDate)::VARCHAR AS StudyDate,
            any_value(d.SeriesDate)::VARCHAR AS SeriesDate,
            any_value(d.series_aws_url) || '*' AS series_aws_url,
            any_value(c.BodyPartExamined) AS BodyPartExamined,
            {sop_class_name} AS sop_class_name,
            string_agg(DISTINCT {syntax}, ',' ORDER BY {syntax}) AS TransferSyntaxUID,
            string_agg(DISTINCT {syntax_name}, ',' ORDER BY {syntax_name}) AS transfer_syntax_name,
            string_agg(DISTINCT {colours}, ',' ORDER BY {colours}) AS PhotometricInterpretation,
            string_agg(DISTINCT {signed}, ',' ORDER BY {signed}) AS PixelRepresentation,
            count(*) AS instanceCount,
            sum(d.instance_size) / 1000000 AS series_size_MB,
            min(a.series_init_idc_version) AS series_init_idc_version,
            max(a.series_revised_idc_version) AS series_revised_idc_version
        FROM read_parquet('{export}/dicom_all/*.parquet') AS d
        LEFT JOIN read_parquet('{export}/dicom_metadata_curated/*.parquet') AS c USING (SOPInstanceUID)
        LEFT JOIN read_parquet('{export}/auxiliary_metadata/*.parquet') AS a USING (SOPInstanceUID)
        GROUP BY d.SeriesInstanceUID
        ORDER BY collection_id, PatientID, StudyInstanceUID, d.SeriesInstanceUID
    ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""


def plain(export: Path, out: Path) -> str:
    """The plain statement; the names of UIDs are those of the query."""
    query = sqlglot.parse_one((ROOT / "queries" / "idc_index.sql").read_text(), dialect="bigquery")
    syntaxes, classes = sorted((node for node in query.find_all(exp.Case)), key=lambda node: len(node.args["ifs"]))
    return PLAIN.format(
        first=", ".join(f"any_value(d.{name}) AS {name}" for name in FIRST),
        sop_class_name=named(classes, "any_value(d.SOPClassUID)"),
        syntax="d.TransferSyntaxUID",
        syntax_name=named(syntaxes, "d.TransferSyntaxUID"),
        colours="d.PhotometricInterpretation",
        signed="d.PixelRepresentation::VARCHAR",
        export=export,
        out=out,
    )


def named(case: exp.Case, uid: str) -> str:
    """DuckDB SQL for the name of a UID."""
    case.set("this", exp.maybe_parse(uid, dialect="duckdb"))
    case.set("default", None)
    return case.sql("duckdb")


def check_same(first: Path, second: Path) -> None:
    """Exit with a message when two Parquet files do not hold the same rows."""
    tables = [f"(SELECT {', '.join(pq.read_schema(second).names)} FROM '{path}')" for path in (first, second)]
    for one, other in (tables, tables[::-1]):
        ((differing,),) = duckdb.execute(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})").fetchall()
        if differing:
            sys.exit(f"benchmark: {differing} rows of {one} are not in {other}")


@dataclass(frozen=True)
class Run:
    """One process: seconds of wall clock and processor, peak memory in GB."""

    wall: float
    cpu: float
    memory: float


def measure(command: list[str], checkout: Path = ROOT, *, may_differ: bool = False) -> Run:
    """Run a command with the toolkit of a checkout; with `may_differ`, exit code 3 is that of a `diff`, no failure."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in ((0, 3) if may_differ else (0,)):
        sys.exit(f"benchmark: failed: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the build of idc_index with one plain statement.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="what reference_export.py wrote")
    parser.add_argument("--runs", type=int, default=3, help="(default: 3)")
    parser.add_argument("--threads", default="2", help="(default: 2)")
    parser.add_argument(
        "--memory-limit", nargs="+", default=["6GB", "4GB", "2GB"], help="of the build (default: 6GB 4GB 2GB)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        statement = plain(options.export / "idc_v25", Path(scratch, "plain.parquet"))
        settings = f"SET threads = {options.threads}; SET temp_directory = '{scratch}/spill'"
        commands = {
            "one plain statement": [
                sys.executable,
                "-c",
                "import duckdb, sys; c = duckdb.connect(); c.execute(sys.argv[1]); c.execute(sys.argv[2])",
                settings,
                statement,
            ]
        }
        for limit in options.memory_limit:
            build = f"build idc_index --force --idc-version 25 --release-version 25.0.0 --threads {options.threads}"
            commands[f"build --memory-limit {limit}"] = [
                *[sys.executable, "-m", "idc_indexer", *build.split()],
                *["--source", str(options.export), "--memory-limit", limit, "--out", f"{scratch}/release"],
            ]
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                runs[name].append(measure(command))
        check_same(Path(scratch, "plain.parquet"), Path(scratch, "release", "idc_index.parquet"))
    print("| | seconds | of the plain one | processor seconds | peak memory, GB | of the plain one |")
    print("|---|---|---|---|---|---|")
    medians = {
        name: Run(*(statistics.median(getattr(run, key) for run in done) for key in ("wall", "cpu", "memory")))
        for name, done in runs.items()
    }
    base = medians["one plain statement"]
    for name, run in medians.items():
        print(
            f"| {name} | {run.wall:.1f} | {run.wall / base.wall:.2f} | {run.cpu:.1f} "
            f"| {run.memory:.1f} | {run.memory / base.memory:.2f} |"
        )


if __name__ == "__main__":
    main()

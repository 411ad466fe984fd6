"""How the commands grow with IDC: seconds, memory and bytes of each for 1, 2, 5 and 10 times the series of a release.

    python scripts/growth.py PACKAGE --scratch FOLDER

PACKAGE is a published idc-index-data wheel, or a folder with its Parquet files. Each series is repeated with other
identifiers, and has no more instances than its lists of transfer syntaxes and the like need, most often one: builds
with all instances are measured by benchmark_all.py. All seventeen indices are built; `diff` compares with the release
of the size before. Each command is a process of its own. The exponent is between a size and the one before: with 1, a
command takes twice as long for twice the series. Linux and macOS.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import duckdb

from benchmark import ROOT, Run, measure

sys.path.insert(0, str(ROOT))

from tests.support.reference.job import literal, open_package
from tests.support.reference_export import export

COPIED = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID")
LISTS = ("TransferSyntaxUID", "PhotometricInterpretation", "PixelRepresentation")
VERSION = ("--idc-version", "25", "--release-version", "25.0.0")


def repeat(package: Path, folder: Path, times: int) -> Path:
    """A package with each series several times."""
    shutil.copytree(package, folder, ignore=shutil.ignore_patterns("idc_index.parquet"))
    uuid = "md5(crdc_series_uuid || k)::UUID::VARCHAR"
    lengths = [f"len(string_split({name}, ','))" for name in LISTS]
    changed = {
        **{name: f"{name} || CASE k WHEN 0 THEN '' ELSE '.' || k END" for name in COPIED},
        "crdc_series_uuid": uuid,
        "series_aws_url": f"'s3://' || aws_bucket || '/' || {uuid} || '/*'",
        "instanceCount": f"greatest(1, {', '.join(lengths)})",
    }
    with duckdb.connect() as connection:
        connection.execute(f"""
            COPY (
                SELECT * EXCLUDE k REPLACE ({", ".join(f"{sql} AS {name}" for name, sql in changed.items())})
                FROM read_parquet({literal(package / "idc_index.parquet")}), range({times}) AS copies(k)
            ) TO {literal(folder / "idc_index.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """)
    return folder


def make_export(package: Path, folder: Path, times: int) -> None:
    with open_package(package) as unpacked:
        export(repeat(unpacked, folder / "package", times), folder / "export", shards=8 * times)


def commands(folder: Path, release: Path, before: Path | None) -> dict[str, list[str]]:
    """The commands on a release, in the order of a release."""
    source = ("--source", str(folder / "export"), "--cache-dir", str(folder / "cache"))
    found = {
        "build": ["build", *VERSION, *source, "--memory-limit", "3GB", "--threads", "2", "--out", str(release)],
        "verify": ["verify", str(release)],
        "diff": ["diff", str(before), str(release)],
        "report": ["report", str(release)],
        "wheel": ["wheel", str(release), "--out", str(folder / "dist")],
        "publish": ["publish", str(release), "--to", str(folder / "store")],
        "publish, up to date": ["publish", str(release), "--to", str(folder / "store"), "--dry-run"],
    }
    return {name: command for name, command in found.items() if before or name != "diff"}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(command: list[str]) -> Run | None:
    """None if the command fails, as `wheel` does for a wheel that PyPI would refuse."""
    try:
        return measure([sys.executable, "-m", "idc_indexer", *command], may_differ=command[0] == "diff")
    except SystemExit:
        return None


def row(times: int, name: str, found: Run | None, smaller: tuple[int, Run] | None) -> str:
    if found is None:
        return f"| {times} | {name} | refused | | | |"
    exponent = ""
    if smaller:
        exponent = f"{math.log(found.cpu / smaller[1].cpu) / math.log(times / smaller[0]):.2f}"
    return f"| {times} | {name} | {found.wall:.1f} | {found.cpu:.1f} | {exponent} | {found.memory:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--scratch", type=Path, required=True, help="an empty folder with much room")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 5, 10])
    options = parser.parse_args()
    print("| times | command | seconds | processor seconds | exponent | peak memory, GB |\n|---|---|---|---|---|---|")
    before, smaller = None, dict[str, tuple[int, Run]]()
    for times in options.times:
        folder = options.scratch / str(times)
        folder.mkdir(parents=True)
        # In a process of its own: a command would inherit the peak of the memory of this one.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(make_export, options.package, folder, times).result()
        release = folder / "release"
        for name, command in commands(folder, release, before).items():
            found = run(command)
            print(row(times, name, found, smaller.get(name)), flush=True)
            if found:
                smaller[name] = times, found
        print(f"| {times} | bytes of the release: {size(release) / 1e6:,.0f} MB | | | | |", flush=True)
        before = release
        for done in ("package", "export", "cache", "dist", "store"):
            shutil.rmtree(folder / done, ignore_errors=True)


if __name__ == "__main__":
    main()

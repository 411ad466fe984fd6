"""How the commands grow with IDC: seconds, memory, disk and bytes of each for 1, 2, 5 and 10 times a release.

    python scripts/growth.py PACKAGE --scratch FOLDER

PACKAGE is a published idc-index-data wheel, or a folder with its Parquet files. Each copy of its series, and of the
instances in them, has other identifiers. A series has no more instances than its lists of transfer syntaxes and the
like need, most often one: builds with all instances are measured by benchmark_all.py. All seventeen indices are built,
from an export that is copied shard by shard. `diff` compares with the release of the size before; `check --deep`
downloads from a server on loopback what `publish` wrote to a folder. Each command is a process of its own.

The exponent is between a size and the one before: with 1, a command takes twice as long for twice the series. Disk is
by how much the scratch folder, which has the temporary files too, grows while a command runs, sampled twice a second.
Needs about 25 GB of disk for ten times the release, and 4 GB of memory. Linux and macOS.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmark import ROOT, Run, measure

sys.path.insert(0, str(ROOT))

from tests.emulators.loopback import LoopbackServer, QuietHandler
from tests.support.reference.job import literal, open_package
from tests.support.reference_export import export

from idc_indexer.publish.records import EXPOSED, media_type

LISTS = ("TransferSyntaxUID", "PhotometricInterpretation", "PixelRepresentation")
IDENTIFIERS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
IDC, RELEASE = 25, "25.0.0"
VERSION = ("--idc-version", str(IDC), "--release-version", RELEASE)
HEADER = ("times", "command", "seconds", "processor seconds", "exponent", "peak memory, GB", "disk, MB", "left, MB")


def make_export(package: Path, folder: Path) -> None:
    """Write the export that is copied: of a package whose series have as few instances as they can."""
    lengths = ", ".join(f"len(string_split({name}, ','))" for name in LISTS)
    with open_package(package) as unpacked, duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")  # see reference_export
        few = shutil.copytree(unpacked, folder / "package", ignore=shutil.ignore_patterns("idc_index.parquet"))
        connection.execute(f"""
            COPY (
                SELECT * REPLACE (greatest(1, {lengths}) AS instanceCount)
                FROM read_parquet({literal(unpacked / "idc_index.parquet")})
            ) TO {literal(few / "idc_index.parquet")} (FORMAT parquet, COMPRESSION zstd)
        """)
        export(few, folder / "once")
    shutil.rmtree(few)


def other_identifiers(names: Iterable[str], copy: int) -> str:
    """SQL for the columns of a copy; its patients, studies, series and instances sort behind all others."""
    if copy == 0:
        return "*"
    names = list(names)
    uuids = {name: f"md5({name} || '{copy}')::UUID::VARCHAR" for name in names if name.endswith("_uuid")}
    new = uuids | {name: f"'~{copy:02}.' || {name}" for name in names if name.endswith(IDENTIFIERS)}
    for name in names:
        if name.endswith(("gcs_url", "aws_url")):
            new[name] = name
            for uuid, sql in uuids.items():
                new[name] = f"replace({new[name]}, {uuid}, {sql})"
    return f"* REPLACE ({', '.join(f'{sql} AS {name}' for name, sql in new.items())})"


def add_copies(once: Path, grown: Path, copies: Iterable[int]) -> None:
    """Add copies of an export to another one. Copy 0 is the export itself."""
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(grown / "spill")}) as connection:
        # see reference_export
        connection.execute("SET disabled_optimizers = 'statistics_propagation'; SET enable_progress_bar = false")
        for copy in copies:
            for table in once.glob("idc_v*/*"):
                shards = sorted(table.iterdir())
                for number, shard in enumerate(shards, start=copy * len(shards)):
                    target = grown / table.relative_to(once) / f"{number:012}.parquet"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    footer = pq.read_metadata(shard)
                    names = footer.schema.to_arrow_schema().names
                    if copy == 0:
                        target.hardlink_to(shard)
                    elif "SeriesInstanceUID" in names:
                        connection.execute(f"""
                            COPY (SELECT {other_identifiers(names, copy)} FROM read_parquet({literal(shard)}))
                            TO {literal(target)} (
                                FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1,
                                ROW_GROUP_SIZE {footer.row_group(0).num_rows})""")


class Bucket(QuietHandler):
    """Serves a folder with releases as a public bucket does."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *arguments: Any) -> None:
        self._folder = folder
        super().__init__(*arguments)

    def do_OPTIONS(self) -> None:
        self._send(204, {"Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Allow-Headers": "Range"})

    def do_HEAD(self) -> None:
        path = self._folder / self.path.lstrip("/")
        if not path.is_file():
            self._send(404, {"Content-Length": "0"})
            return
        size = path.stat().st_size
        first, length, status, headers = 0, size, 200, {"Content-Type": media_type(path.name)}
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1]) if asked[1] else size - int(asked[2])
            length = (int(asked[2]) + 1 if asked[1] and asked[2] else size) - first
            status, headers["Content-Range"] = 206, f"bytes {first}-{first + length - 1}/{size}"
        self._send(status, {**headers, "Content-Length": str(length), "Cache-Control": "public, max-age=31536000"})
        if self.command == "GET":
            with path.open("rb") as file:
                file.seek(first)
                while length and (block := file.read(min(length, 1 << 20))):
                    self.wfile.write(block)
                    length -= len(block)

    do_GET = do_HEAD

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            **headers,
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": ", ".join(EXPOSED),
        }.items():
            self.send_header(name, value)
        self.end_headers()


def commands(scratch: Path, release: Path, before: Path | None, url: str, memory_limit: str) -> dict[str, list[str]]:
    """The commands on a release, in the order of a release."""
    source = ("--source", str(scratch / "export"), "--cache-dir", str(scratch / "cache"))
    to = ("--to", str(scratch / "store"))
    found = {
        "build": ["build", *VERSION, *source, "--memory-limit", memory_limit, "--out", str(release)],
        "verify": ["verify", str(release)],
        "diff": ["diff", str(before), str(release)],
        "report": ["report", str(release)],
        "wheel": ["wheel", str(release), "--out", str(scratch / "dist")],
        "publish --dry-run": ["publish", str(release), *to, "--dry-run"],
        "publish": ["publish", str(release), *to],
        "check --deep": ["check", f"{url}/{RELEASE}/release_artifacts/", "--deep"],
    }
    return {name: command for name, command in found.items() if before or name != "diff"}


def size(folder: Path) -> int:
    """Bytes of all files; those that are removed meanwhile do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


@dataclass(frozen=True)
class Measured:
    """A command: how it ran, and bytes by which the scratch folder was larger at most, and is larger after it."""

    run: Run
    disk: int
    left: int


def run(command: list[str], scratch: Path) -> Measured | None:
    """None if the wheel is refused because PyPI would not take it."""
    start, most, ended = size(scratch), [0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.5):
            most.append(size(scratch) - start)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        found = measure([sys.executable, "-m", "idc_indexer", *command], may_differ=command[0] == "diff")
    except SystemExit:
        if command[0] != "wheel":
            raise
        return None
    finally:
        ended.set()
        sampler.join()
    left = size(scratch) - start
    return Measured(found, max(*most, left), left)


def row(times: int, name: str, found: Measured | None, smaller: tuple[int, Measured] | None) -> list[str]:
    if found is None:
        return [str(times), name, "refused", *[""] * (len(HEADER) - 3)]
    exponent = ""
    if smaller:
        exponent = f"{math.log(found.run.cpu / smaller[1].run.cpu) / math.log(times / smaller[0]):.2f}"
    seconds = [f"{found.run.wall:.1f}", f"{found.run.cpu:.1f}", exponent]
    return [str(times), name, *seconds, f"{found.run.memory:.2f}", f"{found.disk / 1e6:.0f}", f"{found.left / 1e6:.0f}"]


def show(cells: Iterable[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own: a command would inherit the peak of the memory of this one."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--scratch", type=Path, required=True, help="an empty folder with much room")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--memory-limit", default="3GB", help="of build (default: 3GB)")
    options = parser.parse_args()
    scratch = options.scratch
    (scratch / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = str(scratch / "tmp")
    show(HEADER)
    show(["---"] * len(HEADER))
    apart(make_export, options.package, scratch)
    made, releases, smaller = 0, list[Path](), dict[str, tuple[int, Measured]]()
    for times in options.times:
        release = scratch / f"release-{times}"
        apart(add_copies, scratch / "once", scratch / "export", range(made, times))
        made = times
        before = releases[-1] if releases else None
        with LoopbackServer(partial(Bucket, scratch / "store")) as server:
            for name, command in commands(scratch, release, before, server.url, options.memory_limit).items():
                found = run(command, scratch)
                show(row(times, name, found, smaller.get(name)))
                if found:
                    smaller[name] = times, found
        show([str(times), "bytes of the release, MB", *[""] * (len(HEADER) - 3), f"{size(release) / 1e6:.0f}"])
        for name in ("cache", "dist", "store"):
            shutil.rmtree(scratch / name, ignore_errors=True)
        releases.append(release)


if __name__ == "__main__":
    main()

"""Requests, bytes, seconds and memory of `stage` from S3, next to other ways to read the same columns.

    python -m tests.support.wide_export PACKAGE EXPORT --shards 300
    PYTHONPATH=. python scripts/benchmark_staging.py EXPORT --httpfs PYTHON

PYTHON is one of an environment with `duckdb==1.5.5` and `duckdb-extension-httpfs==1.5.5`, the only version of DuckDB
whose extension for S3 is on PyPI. The server of the tests serves EXPORT on loopback and counts; every way to read runs
as a process of its own, one after the other. Markdown tables are printed:

* staging: the columns of all indices, from all tables of the export, by `stage` and by others that write them to
  local files too, and the same byte ranges by plain connections that keep nothing: the floor.
* readers: some shards at different latencies, by libraries that read ranges and by those that read columns, which write
  them too.
* links: staging over lines of 100 Mbit/s and 1 Gbit/s.
* gaps: how many ranges and bytes a shard takes when gaps up to a size are read over.
* kills: how many bytes are fetched again when staging is killed 20 times, and what that is of a real export.

Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
from tests.emulators.s3 import S3Server, Seen
from tests.support.needed import BUCKET, RELEASE, WIDE, look_at_all, needed_columns, to_fetch, total

from benchmark import Run, measure
from idc_indexer.catalog import Catalog
from idc_indexer.exports.pruning.footer import coalesced
from staging_readers import Job

PRIOR = "prior_versions_index"
"""Reads the past releases, one after the other."""
FEW = "few"
GAPS = (0, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20)
SHARES = (0.05, 0.1, 0.2, 1.0)
LATENCIES = (0.0, 0.03, 0.1)
LINKS = (100, 1000)
KILLS = 20
REAL_SHARDS = 5_000
"""Of dicom_all in the public export of release 25."""
Ranges = dict[str, list[tuple[int, int]]]


# --- Running ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A way to read, and what the server saw of it."""

    name: str
    run: Run
    seen: Seen


class Bench:
    """The server, the shards that it has, and how the processes are told."""

    def __init__(self, s3: S3Server, export: Path, scratch: Path, connections: int, httpfs: Path | None) -> None:
        self.s3 = s3
        self._export = export
        self.needed = needed_columns()
        self.shards = look_at_all(export, self.needed)
        self.wide = {key: shard for key, shard in self.shards.items() if key.startswith(f"{WIDE}/")}
        self._scratch = scratch
        self._connections = connections
        self._httpfs = httpfs

    def measured(self, name: str, command: Iterable[object]) -> Measured:
        self.s3.clear()
        run = measure([str(part) for part in command])
        return Measured(name, run, self.s3.seen())

    def stage(self, name: str = "`idc-indexer stage`", indices: Sequence[str] = ()) -> tuple[Measured, int]:
        """Measure staging into an empty cache, of all indices or of some, and the bytes that it then has."""
        command = ["-m", "idc_indexer", "stage", *indices, "--source", f"s3://{BUCKET}", "--idc-version", RELEASE]
        with tempfile.TemporaryDirectory(dir=self._scratch) as cache:
            found = self.measured(name, [sys.executable, *command, "--cache-dir", cache])
            return found, sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())

    def serve_few(self, keys: Iterable[str]) -> None:
        """Serve some shards as another bucket."""
        folder = self._scratch / FEW
        for key in keys:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).symlink_to((self._export / key).absolute())
        self.s3.set(buckets={BUCKET: str(self._export.absolute()), FEW: str(folder)})

    def reader(
        self, name: str, ranges: Ranges | None = None, tables: Iterable[str] = (), bucket: str = BUCKET
    ) -> Measured | None:
        """Measure a reader of ranges or of tables; None when it has no environment."""
        python = sys.executable
        if name.startswith("httpfs"):
            if self._httpfs is None:
                return None
            python = str(self._httpfs)
        out = self._scratch / name
        out.mkdir(exist_ok=True)
        columns = {table: sorted({leaf.partition(".")[0] for leaf in self.needed[table]}) for table in tables}
        spelt = {table: _spelt(self._export / table, names) for table, names in columns.items()}
        job = Job(self.s3.url, bucket, self._connections, ranges or {}, spelt, str(out))
        path = self._scratch / f"{name}.json"
        path.write_text(json.dumps(asdict(job)), encoding="utf-8")
        return self.measured(name, [python, Path(__file__).parent / "staging_readers.py", name, path])


def _spelt(folder: Path, columns: Iterable[str]) -> list[str]:
    names = {name.lower(): name for name in pq.read_schema(next(folder.iterdir())).names}
    return [names[column] for column in columns]


# --- The tables ---------------------------------------------------------------------------------------------


NAMES = {
    "plain": "ranges, plain connections",
    "arrow": "pyarrow S3FileSystem",
    "dataset": "pyarrow dataset over S3FileSystem",
    "httpfs": "DuckDB over httpfs",
    "httpfs_threads": "DuckDB over httpfs, 8 threads",
}


def staging(bench: Bench, latency: float) -> None:
    """The columns of all indices, from all tables."""
    bench.s3.set(latency=latency)
    print(
        f"{len(bench.shards)} shards, {len(bench.wide)} of them wide, {latency * 1000:.0f} ms per request. Needed, MB: "
        f"{total(bench.shards) / 1e6:,.1f}, of wide shards {total(bench.wide) / 1e6:,.1f}, of those footers "
        f"{sum(shard.footer for shard in bench.wide.values()) / 1e6:,.1f}\n"
    )
    head = ["", "requests", "MB", "× needed", "requests of a wide shard", "for its footer", "× needed"]
    head += ["seconds", "× floor", "processor seconds", "peak memory, GB"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    without = [index.name for index in Catalog().select() if index.name != PRIOR]
    stage_and_floor(bench, f"`stage` without `{PRIOR}`", without)
    floor, kept = stage_and_floor(bench, "`idc-indexer stage`")
    for name in ("dataset", "httpfs_threads", "httpfs"):
        if other := bench.reader(name, tables=bench.needed):
            print(f"| {' | '.join(row(bench, other, floor))} |", flush=True)
    print(f"\n`stage` keeps {kept / 1e6:,.1f} MB.", flush=True)


def stage_and_floor(bench: Bench, name: str, indices: Sequence[str] = ()) -> tuple[Measured, int]:
    """The lines of staging, and of the ranges that it asks for; returns the latter and the bytes that are kept."""
    staged, kept = bench.stage(name, indices)
    ranges = {key.removeprefix(f"{BUCKET}/"): read for key, read in staged.seen.ranges.items()}
    floor = bench.reader("plain", ranges)
    assert floor
    for found in (staged, floor):
        print(f"| {' | '.join(row(bench, found, floor))} |", flush=True)
    return floor, kept


def row(bench: Bench, found: Measured, floor: Measured) -> Iterator[str]:
    """The cells of a line."""
    seen, run = found.seen, found.run
    wide = {key: seen.ranges.get(f"{BUCKET}/{key}", []) for key in bench.wide}
    footers = sum(
        last >= bench.wide[key].end - bench.wide[key].footer for key, ranges in wide.items() for _, last in ranges
    )
    yield NAMES.get(found.name, found.name)
    yield f"{seen.requests.total():,}"
    yield f"{seen.total / 1e6:,.1f}"
    read = {key: shard for key, shard in bench.shards.items() if f"{BUCKET}/{key}" in seen.ranges}
    yield f"{seen.total / total(read):.2f}"
    yield f"{sum(map(len, wide.values())) / len(wide):.1f}"
    yield f"{footers / len(wide):.2f}"
    yield f"{sum(seen.bytes[f'{BUCKET}/{key}'] for key in wide) / total(bench.wide):.2f}"
    yield f"{run.wall:.1f}"
    yield f"{run.wall / floor.run.wall:.2f}"
    yield f"{run.cpu:.1f}"
    yield f"{run.memory:.2f}"


def readers(bench: Bench, count: int) -> None:
    """The first `count` wide shards, by every reader."""
    ranges = {key: to_fetch(shard) for key, shard in list(bench.wide.items())[:count]}
    bench.serve_few(ranges)
    print(f"\n{count} wide shards, {sum(map(len, ranges.values())):,} ranges; seconds\n")
    head = ["", "requests", *(f"{latency * 1000:.0f} ms" for latency in LATENCIES), "processor seconds"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in ("plain", "urllib3", "obstore", "arrow", "dataset", "httpfs_threads"):
        found = []
        for latency in LATENCIES:
            bench.s3.set(latency=latency)
            of_tables = name in ("dataset", "httpfs_threads")
            found.append(bench.reader(name, tables=[WIDE], bucket=FEW) if of_tables else bench.reader(name, ranges))
        if done := [each for each in found if each]:
            seconds = " | ".join(f"{each.run.wall:.1f}" for each in done)
            requests, cpu = done[-1].seen.requests.total(), done[-1].run.cpu
            print(f"| {NAMES.get(name, name)} | {requests:,} | {seconds} | {cpu:.1f} |", flush=True)


def links(bench: Bench, latency: float) -> None:
    """Staging over slower lines than loopback."""
    head = ["line, Mbit/s", "seconds", "MB", "at the rate of the line, seconds", "processor seconds"]
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for megabits in LINKS:
        bench.s3.set(latency=latency, bandwidth=megabits * 1e6 / 8)
        found, _ = bench.stage()
        size, run = found.seen.total / 1e6, found.run
        print(
            f"| {megabits:,} | {run.wall:.1f} | {size:,.1f} | {size * 8 / megabits:.1f} | {run.cpu:.1f} |", flush=True
        )
    bench.s3.set(bandwidth=0)


def gaps(bench: Bench) -> None:
    """What a wide shard takes, by the largest gap that is read over, or by the share of all that may be."""
    shard = next(iter(bench.wide.values()))
    chunks = shard.bytes - shard.footer
    between = sorted(after[0] - before[1] for before, after in pairwise(shard.chunks))
    print(f"\nA shard: footer {shard.footer / 1e6:.2f} MB, {len(shard.chunks)} needed chunks {chunks / 1e6:.2f} MB\n")
    print("| read over | ranges | × chunks | × chunks and footer |\n|---|---|---|---|")
    spared = {f"gaps up to {most:,} bytes": sum(gap for gap in between if gap <= most) for most in GAPS}
    spared |= {f"{share:.0%} of what is needed": int(share * shard.bytes) for share in SHARES}
    for name, spare in spared.items():
        read = coalesced(shard.chunks, spare)
        size = sum(end - start for start, end in read)
        print(f"| {name} | {len(read)} | {size / chunks:.2f} | {(size + shard.footer) / shard.bytes:.2f} |")


def kills(bench: Bench, latency: float) -> None:
    """Staging of all indices of one release, killed at random moments until it has been killed 20 times."""
    bench.s3.set(latency=latency)
    without = [index.name for index in Catalog().select() if index.name != PRIOR]
    undisturbed = bench.stage(indices=without)[0].seen
    shard = sum(undisturbed.bytes[f"{BUCKET}/{key}"] for key in bench.wide) / len(bench.wide)
    chance = random.Random(7)  # noqa: S311
    sent = done = 0
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "idc_indexer", "stage", *without, "--source", f"s3://{BUCKET}"]
        command += ["--idc-version", str(RELEASE), "--cache-dir", cache]
        while True:
            bench.s3.clear()
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            limit = chance.randrange(3 * undisturbed.requests.total() // KILLS)
            while process.poll() is None and (done >= KILLS or bench.s3.seen().requests.total() < limit):
                time.sleep(0.005)
            if finished := process.poll() is not None:
                assert process.returncode == 0
            else:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
            sent += bench.s3.seen().total
            if finished:
                break
    again = (sent - undisturbed.total) / max(done, 1)
    print(
        f"\n{done} kills: {sent / undisturbed.total:.3f} times the bytes of an undisturbed run; each kill costs "
        f"{again / 1e6:.1f} MB, the bytes of {again / shard:.1f} wide shards, {again / shard / REAL_SHARDS:.2%} of "
        f"{REAL_SHARDS:,} of them",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure staging from S3, next to other ways to read.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="what wide_export.py wrote")
    parser.add_argument("--httpfs", type=Path, metavar="PYTHON", help="of an environment with duckdb-extension-httpfs")
    parser.add_argument("--latency", type=float, default=0.03, help="seconds per request (default: 0.03)")
    parser.add_argument("--connections", type=int, default=32, help="(default: 32)")
    parser.add_argument("--shards", type=int, default=30, help="of the comparison of readers (default: 30)")
    parser.add_argument(
        "--tables", nargs="+", choices=("staging", "readers", "links", "gaps", "kills"), help="(default: all)"
    )
    parser.add_argument("--scratch", type=Path, help="folder for what is staged (default: temporary)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.scratch) as scratch,
        S3Server({BUCKET: options.export.absolute()}) as s3,
    ):
        os.environ.update(s3.environment)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed toolkit has its bytecode
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(scratch, "bytecode"))
        bench = Bench(s3, options.export, Path(scratch), options.connections, options.httpfs)
        bench.stage(indices=["collections_index"])  # writes the bytecode
        tables: dict[str, Callable[[], None]] = {
            "staging": lambda: staging(bench, options.latency),
            "readers": lambda: readers(bench, options.shards),
            "links": lambda: links(bench, options.latency),
            "gaps": lambda: gaps(bench),
            "kills": lambda: kills(bench, options.latency),
        }
        for name in options.tables or tables:
            tables[name]()


if __name__ == "__main__":
    main()

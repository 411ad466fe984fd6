"""Time and memory of `build`: of every index by itself, and of all of them in one go.

    python -m tests.support.reference_export PACKAGE EXPORT --shards 64
    python scripts/benchmark_all.py EXPORT

Each build is a process of its own, over the same files. What is printed is a Markdown table. The past releases, which
prior_versions_index reads once and then keeps, are read anew by every build. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmark import ROOT, Run, measure


def build(scratch: Path, options: argparse.Namespace, index: str | None = None) -> tuple[Run, int]:
    """One build, of all indices when none is named, and how many rows it wrote."""
    release = scratch / "release"
    for old in (release, scratch / "cache"):
        shutil.rmtree(old, ignore_errors=True)
    version = str(options.idc_version)
    run = measure(
        [
            *[sys.executable, "-m", "idc_indexer", "build", *([index] if index else [])],
            *["--source", str(options.export), "--idc-version", version, "--release-version", f"{version}.0.0"],
            *["--memory-limit", options.memory_limit, "--threads", options.threads],
            *["--out", str(release), "--cache-dir", str(scratch / "cache")],
        ]
    )
    manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
    return run, sum(entry["rows"] for entry in manifest["indices"])


def row(name: str, rows: int, run: Run) -> str:
    """A row of the table."""
    return f"| {name} | {rows:,} | {run.wall:.1f} | {run.cpu:.1f} | {run.memory:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the build of every index, and of all together.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="what reference_export.py wrote")
    parser.add_argument("--index", nargs="+", help="only these (default: all, and all together)")
    parser.add_argument("--idc-version", type=int, default=25, help="(default: 25)")
    parser.add_argument("--threads", default="2", help="(default: 2)")
    parser.add_argument("--memory-limit", default="3GB", help="(default: 3GB)")
    parser.add_argument("--scratch", type=Path, help="folder for what is built and spilled (default: temporary)")
    options = parser.parse_args()
    indices = options.index or sorted(path.stem for path in (ROOT / "schemas").glob("*_index.json"))
    print("| index | rows | seconds | processor seconds | peak memory, GB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        for index in indices:
            run, rows = build(scratch, options, index)
            print(row(f"`{index}`", rows, run), flush=True)
        if not options.index:
            run, rows = build(scratch, options)
            print(row("all, in one build", rows, run), flush=True)


if __name__ == "__main__":
    main()

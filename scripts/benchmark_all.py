"""Time and memory of `build`: of every index by itself, and of all of them in one go.

    python -m tests.support.reference_export PACKAGE EXPORT --shards 64
    python scripts/benchmark_all.py EXPORT
    git worktree add OLD COMMIT && python scripts/benchmark_all.py EXPORT --against OLD

With --against, both commits build in turn, the processor seconds of each are compared, and both must write the same
bytes. A smaller export does for that: `--one-in 8 --shards 8`.

Each build is a process of its own, over the same files. What is printed is a Markdown table. The past releases, which
prior_versions_index reads once and then keeps, are read anew by every build. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark import ROOT, Run, measure


def build(
    scratch: Path, options: argparse.Namespace, index: str | None = None, checkout: Path = ROOT
) -> tuple[Run, dict[str, Any]]:
    """One build with the toolkit of a checkout, of all indices when none is named, and its manifest."""
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
        ],
        checkout,
    )
    return run, json.loads((release / "manifest.json").read_text(encoding="utf-8"))


def row(name: str, manifest: dict[str, Any], run: Run) -> str:
    """A row of the table."""
    rows = sum(entry["rows"] for entry in manifest["indices"])
    return f"| {name} | {rows:,} | {run.wall:.1f} | {run.cpu:.1f} | {run.memory:.1f} |"


def compared(scratch: Path, options: argparse.Namespace, index: str | None) -> str:
    """A row of the table that compares two commits: old and new seconds, and the ratios of the pairs of builds."""
    pairs = []
    for _ in range(options.runs):
        (old, before), (new, after) = (build(scratch, options, index, path) for path in (options.against, ROOT))
        pairs.append((old.cpu, new.cpu))
        files = [{one["name"]: one["files"] for one in made["indices"]} for made in (before, after)]
        if differ := sorted(name for name, written in files[0].items() if files[1][name] != written):
            sys.exit(f"benchmark_all: {', '.join(differ)}: {options.against} writes other bytes")
    old_seconds, new_seconds = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratios = sorted(new / old for old, new in pairs)
    median = statistics.median(ratios)
    name = f"`{index}`" if index else "all, in one build"
    return f"| {name} | {old_seconds:.1f} | {new_seconds:.1f} | {ratios[0]:.2f} | {median:.2f} | {ratios[-1]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the build of every index, and of all together.")
    parser.add_argument("export", type=Path, metavar="EXPORT", help="what reference_export.py wrote")
    parser.add_argument("--index", nargs="+", help="only these (default: all, and all together)")
    parser.add_argument("--idc-version", type=int, default=25, help="(default: 25)")
    parser.add_argument("--threads", default="2", help="(default: 2)")
    parser.add_argument("--memory-limit", default="3GB", help="(default: 3GB)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the toolkit of this checkout")
    parser.add_argument("--runs", type=int, default=3, help="with --against (default: 3)")
    parser.add_argument("--scratch", type=Path, help="folder for what is built and spilled (default: temporary)")
    options = parser.parse_args()
    indices = options.index or sorted(path.stem for path in (ROOT / "schemas").glob("*_index.json"))
    builds = [*indices, *([] if options.index else [None])]
    heading = ["index", "rows", "seconds", "processor seconds", "peak memory, GB"]
    if options.against:
        heading = ["index", "processor seconds, old", "new", "smallest ratio", "median", "largest"]
    print(f"| {' | '.join(heading)} |")
    print("|" + "---|" * len(heading))
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        for index in builds:
            if options.against:
                print(compared(scratch, options, index), flush=True)
            else:
                run, manifest = build(scratch, options, index)
                print(row(f"`{index}`" if index else "all, in one build", manifest, run), flush=True)


if __name__ == "__main__":
    main()

"""Time and memory of `diff` against polars and datacompy doing the same comparison.

    pip install polars datacompy
    python scripts/benchmark_diff.py OLD.parquet NEW.parquet [--runs 3]

OLD and NEW are an idc_index of two releases. The contenders count rows that were added and removed, and changed cells
of every column; `diff` besides finds out order, layout, statistics of each column and what changed for IDC. They run
in turn, each as a process of its own, so that a machine that is slow for a while is slow for all. That they count the
same is checked. What is printed is the median of the runs, and the ratios of the medians. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "SeriesInstanceUID"

POLARS = f"""
import json, sys
import polars as pl
old, new = (pl.read_parquet(path) for path in sys.argv[1:3])
shared = [c for c in new.columns if c in old.columns and c != "{KEY}"]
both = old.join(new, on="{KEY}", suffix=":new")
counts = both.select(pl.col(c).ne_missing(pl.col(c + ":new")).sum() for c in shared).row(0, named=True)
added, removed = (len(a.join(b, on="{KEY}", how="anti")) for a, b in ((new, old), (old, new)))
print(json.dumps({{"added": added, "removed": removed, "cells": {{c: n for c, n in counts.items() if n}}}}))
"""
DATACOMPY = f"""
import json, sys
import datacompy, polars as pl
old, new = (pl.read_parquet(path) for path in sys.argv[1:3])
found = datacompy.PolarsCompare(old, new, "{KEY}", cast_column_names_lower=False)
cells = {{stat["column"]: stat["unequal_cnt"] for stat in found.column_stats if stat["unequal_cnt"]}}
added, removed = len(found.df2_unq_rows), len(found.df1_unq_rows)
print(json.dumps({{"added": added, "removed": removed, "cells": cells}}))
"""
TOOLKIT = """
import sys
from idc_indexer.cli import main
main(["diff", *sys.argv[1:3], "--json"], prog_name="idc-indexer")
"""
CONTENDERS = {"diff": TOOLKIT, "polars": POLARS, "datacompy": DATACOMPY}


@dataclass(frozen=True)
class Run:
    """One run: seconds, processor seconds, and the most memory it had, in GB."""

    seconds: float
    processor: float
    memory: float
    found: Any


def measure(program: str, old: Path, new: Path) -> Run:
    """Run a contender as a process of its own."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", program, str(old), str(new)], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            raise SystemExit(f"failed: {program}")
        out.seek(0)
        text = out.read()
    try:
        found = json.loads(text)
    except ValueError:
        raise SystemExit(f"{program}\nprints {text[:500]}") from None
    unit = 1e9 if sys.platform == "darwin" else 1e6  # of ru_maxrss: bytes, or KiB
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, counts(found))


def counts(found: Any) -> Any:
    """The numbers that all contenders find."""
    if "tables" not in found:
        return found
    ((_, table),) = found["tables"].items()
    cells = {column["name"]: column["cells"] for column in table["columns"] if column["cells"]}
    return {"added": table["rows"]["added"], "removed": table["rows"]["removed"], "cells": cells}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.runs):
        for name, program in CONTENDERS.items():
            runs[name].append(measure(program, arguments.old, arguments.new))
    expected = runs["polars"][0].found
    for name, of in runs.items():
        for run in of:
            if run.found != expected:
                raise SystemExit(f"{name} counts something else: {run.found}, polars {expected}")
    figures = {
        name: [statistics.median(getattr(run, what) for run in of) for what in ("seconds", "processor", "memory")]
        for name, of in runs.items()
    }
    base = figures["diff"]
    print(f"{arguments.runs} runs each, in turn, all with the same counts")
    for name, row in figures.items():
        ratios = ", ".join(f"{value / one:.2f}" for value, one in zip(row, base, strict=True))
        print(f"{name}: {row[0]:.1f} s, {row[1]:.1f} s of processor, {row[2]:.2f} GB; of diff's: {ratios}")


if __name__ == "__main__":
    main()

"""What `import idc_index_data` costs: seconds, and bytes of the files that it opens, for some copies of the package.

python scripts/import_cost.py PUBLISHED_WHEEL OUR_WHEEL
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MEASURE = """
import os, sys, time
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
start = time.perf_counter()
import idc_index_data
seconds = time.perf_counter() - start
ours = [name for name in opened if "idc_index_data" in name and not name.endswith((".py", ".pyc"))]
print(seconds, sum(os.path.getsize(name) for name in ours if os.path.isfile(name)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the import of copies of idc_index_data.")
    parser.add_argument("wheels", type=Path, nargs="+", metavar="WHEEL")
    parser.add_argument("--runs", type=int, default=15, help="(default: 15)")
    options = parser.parse_args()
    print("| package | best time, ms | bytes read |\n|---|---|---|")
    for wheel in options.wheels:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
            outputs = [
                subprocess.run([sys.executable, "-c", MEASURE], cwd=folder, capture_output=True, text=True, check=True)
                for _ in range(options.runs)
            ]
        seconds, size = min((float(time), int(size)) for time, size in (done.stdout.split() for done in outputs))
        print(f"| {wheel.name} | {seconds * 1000:.1f} | {size:,} |")


if __name__ == "__main__":
    main()

"""What an installation of the toolkit takes: bytes and packages, by extra; and the processor time of `--help`.

python scripts/install_cost.py [WHEEL]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOP = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure installations of the toolkit.")
    parser.add_argument("wheel", nargs="?", default=str(TOP), help="(default: what is checked out)")
    parser.add_argument("--runs", type=int, default=10, help="(default: 10)")
    options = parser.parse_args()
    print("| | packages | MB | of it the largest | `--help`, processor ms |\n|---|---|---|---|---|")
    for extra in ("", "[gcs]", "[bigquery]", "[hub]"):
        with tempfile.TemporaryDirectory() as folder:
            venv.create(folder, with_pip=True)
            programs = Path(folder, "Scripts" if sys.platform == "win32" else "bin")
            packages = next(Path(folder).rglob("site-packages"))
            before = {path.name for path in packages.iterdir()}
            install: list[str | Path] = [
                programs / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                f"{options.wheel}{extra}",
            ]
            subprocess.run(install, check=True)
            added = {path.name: _size(path) for path in packages.iterdir() if path.name not in before}
            largest = sorted(added, key=lambda name: -added[name])[:3]
            count = sum(name.endswith(".dist-info") for name in added)
            listed = ", ".join(f"{name} {added[name] / 1e6:.0f}" for name in largest)
            best = min(_time(programs / "idc-indexer") for _ in range(options.runs))
            name = f"`idc-indexer{extra}`"
            print(f"| {name} | {count} | {sum(added.values()) / 1e6:.0f} | {listed} | {best * 1000:.0f} |", flush=True)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _time(program: Path) -> float:
    """Processor seconds, which other work on the machine changes little."""
    before = os.times()
    subprocess.run([program, "--help"], check=True, capture_output=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    main()

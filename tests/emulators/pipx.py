#!/usr/bin/env python3
"""`pipx run --spec SPEC PROGRAM ...`, with one environment for each SPEC, which all tests of a run share.

None of these programs can be in the environment of the tests: one of them brings a package that makes every
`import jsonschema` take a second.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import filelock

HELD_BACK = {"PIP_NO_DEPS", "PIP_NO_INDEX", "PIP_NO_BUILD_ISOLATION", "PIP_DRY_RUN"}


def main(home: Path, spec: str, program: str, *arguments: str) -> None:
    folder = home / re.sub(r"[^\w.]", "-", spec)
    home.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            # To install pip too, and to compile what nobody imports, takes two thirds of the time.
            venv.create(folder, clear=True)
            # What keeps the pip of a workflow from changing the environment of the tests is not meant for this one.
            kept = {name: value for name, value in os.environ.items() if name not in HELD_BACK}
            pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
            subprocess.run([*pip, "install", "--quiet", "--no-compile", spec], check=True, env=kept)
            (folder / "done").touch()
    # Checking the list of components takes ten seconds.
    more = ["--no-validate"] if program == "cyclonedx-py" else []
    found = folder / "bin" / program
    os.execv(found, [str(found), *arguments, *more])  # noqa: S606 -- it is to take the place of this process


if __name__ == "__main__":
    home, run, option, *rest = sys.argv[1:]
    if (run, option) != ("run", "--spec"):
        sys.exit(f"pipx: {run} {option} is not known here")
    main(Path(home), *rest)

"""How much memory a program takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def run(*arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run Python with some arguments.

    A small process starts it and measures: on Linux, a process that a large one starts has the peak of the large one.

    Returns:
        The result, and the peak memory in bytes. Not on Windows.
    """
    command: Sequence[str | Path] = [sys.executable, "-c", _MEASURE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    unit = 1 if sys.platform == "darwin" else 1024
    return done, int(done.stdout.splitlines()[-1]) * unit

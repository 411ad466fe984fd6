"""Damaged exports, releases and wheels, for two minutes: `scripts/fuzz.py` runs for as long as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_damaged_input_ends_no_command_other_than_with_a_message() -> None:
    script = Path(__file__).parents[1] / "scripts" / "fuzz.py"
    command = [sys.executable, str(script), "--minutes", "2", "--seed", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    (last,) = (line for line in done.stdout.splitlines() if line.startswith("| all |"))
    runs, failures = (int(cell) for cell in last.split("|")[3:5])
    assert runs > 100
    assert failures == 0

"""The commands of the README are run as a new user types them, and what it says of the project holds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from idc_indexer.catalog import Catalog

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
SAMPLE = TOP / "src" / "idc_indexer" / "sample"
COUNTED = ("SeriesInstanceUID", "PatientID", "collection_id")
SET_UP, TESTS, COMMANDS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def run(script: str, folder: Path, path: str) -> str:
    """Run shell commands as a user types them, with an empty home; stop at the first that fails."""
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_shell_runs_all_commands_in_a_fresh_checkout(tmp_path: Path) -> None:
    """The first block activates the environment, so that the commands further down are found."""
    checkout = tmp_path / "checkout"
    unversioned = [TOP / name for name in ("build", "dist", "release", "tests")]

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name[0] == "." or name == "__pycache__" or Path(folder, name) in unversioned}

    shutil.copytree(TOP, checkout, ignore=ignored)
    # the interpreter of this run, under the name that the README uses, and no other program of its environment
    (tmp_path / "python3").symlink_to(sys.executable)
    output = run(f"{SET_UP}\necho its end\n{COMMANDS}", checkout, f"{tmp_path}:{os.defpath}")
    first, _, others = output.partition("its end\n")
    assert first.endswith("release: OK\n")
    shown = re.findall(r"^\w+\.parquet: [\d,]+ rows", README, re.MULTILINE)
    assert shown
    assert set(shown) <= set(re.findall(r"^\w+\.parquet: [\d,]+ rows", first, re.MULTILINE))
    assert (checkout / "release" / "manifest.json").is_file()
    assert "new: OK\n" in others
    assert "dist/idc_index_data-25.0.1-py3-none-any.whl\n" in others
    assert others.endswith("25.0.1: valid\ncurrent: 25.0.1, OK\n")


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 125


def test_ci_runs_the_tests_with_the_command_of_the_readme() -> None:
    assert TESTS.endswith("nox\n")
    lines = (TOP / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert TESTS.strip() in lines


def test_it_says_what_the_sample_holds() -> None:
    """The counts are facts of the bundled sample."""
    table = pq.read_table(SAMPLE / "idc_v25" / "dicom_all", columns=list(COUNTED))
    counts = tuple(len(table[name].unique()) for name in COUNTED)
    releases = len([path for path in SAMPLE.glob("idc_v*") if not path.name.endswith("_clinical")])
    said = "The sample holds {} real series of {} patients in {} collections, and the series of all {} IDC releases"
    assert said.format(*counts, releases) in " ".join(README.split())


def test_the_table_of_indices_is_the_catalog() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == set(Catalog().indices)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:scripts|schemas|queries)/[\w./]+\w", README))))
def test_files_that_are_named_exist(path: str) -> None:
    assert (TOP / path).exists()

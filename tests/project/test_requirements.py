"""What is installed: every extra resolves for every Python and system, and releases install from a lock with hashes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
TOP = Path(__file__).parents[2]
LOCK = TOP / "requirements" / "release.lock"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSIONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
online = pytest.mark.skipif(
    bool(os.environ.get("IDC_INDEXER_TEST_OFFLINE")), reason="IDC_INDEXER_TEST_OFFLINE is set: there is no registry"
)


def compile_requirements(*options: object) -> None:
    """Resolve the requirements of the project, for machines that are not at hand."""
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [str(word) for word in (uv, "pip", "compile", "--quiet", TOP / "pyproject.toml", *options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@online
@pytest.mark.slow
def test_every_extra_resolves_for_every_python_and_system(tmp_path: Path) -> None:
    """One resolution for all of them: it fails if it has no solution for any."""
    everywhere = ("--all-extras", "--universal", "--python-version", VERSIONS[0])
    compile_requirements(*everywhere, "--output-file", tmp_path / "all.txt")
    found = {Requirement(line).name for line in (tmp_path / "all.txt").read_text().splitlines() if line[0].isalpha()}
    assert {"pytest", "zizmor", "boto3", "google-cloud-bigquery", "google-cloud-storage"} <= found


@online
@pytest.mark.slow
@pytest.mark.parametrize("system", ["linux", "macos", "windows"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_extra_has_wheels_for(version: str, system: str, tmp_path: Path) -> None:
    where = ("--python-version", version, "--python-platform", system, "--only-binary", ":all:")
    compile_requirements("--all-extras", *where, "--output-file", tmp_path / "all.txt")
    assert "pyarrow==" in (tmp_path / "all.txt").read_text()


def locked() -> dict[str, list[Requirement]]:
    """The requirements in the lock, by name: several where they depend on the version of Python."""
    found: dict[str, list[Requirement]] = {}
    for line in LOCK.read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        requirement = Requirement(line.partition(" --hash=")[0])
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), requirement
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_the_lock_has_all_that_a_release_needs_and_names_no_registry() -> None:
    extras = PROJECT["optional-dependencies"]
    pinned = locked()
    for requirement in map(Requirement, PROJECT["dependencies"] + extras["bigquery"] + extras["gcs"] + extras["hub"]):
        for found in pinned[canonicalize_name(requirement.name)]:
            (pin,) = found.specifier
            assert pin.operator == "=="
            assert pin.version in requirement.specifier, "run `nox -s lock`"
    assert "pytest" not in pinned
    assert not re.findall(r"https?:|file:|index-url|find-links", LOCK.read_text(encoding="utf-8"))


@online
@pytest.mark.slow
def test_the_lock_is_what_its_session_writes(tmp_path: Path) -> None:
    """A version stays as long as it fits, so this fails only if the requirements have changed."""
    again = Path(shutil.copy(LOCK, tmp_path))
    compile_requirements("--config-file", TOP / "requirements" / "uv.toml", "--output-file", again)
    assert again.read_text(encoding="utf-8") == LOCK.read_text(encoding="utf-8"), "run `nox -s lock`"

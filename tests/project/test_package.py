"""The toolkit as a package: what is in it, and that it does what the documents show where nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import idc_indexer
from tests.conftest import once
from tests.project.test_docs import FENCED, PAGES, TOP, blocks, prose
from tests.support.archives import unpack

posix = pytest.mark.skipif(sys.platform == "win32", reason="they are for a POSIX shell")
SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"


def done(*command: object, folder: Path, **environment: str) -> str:
    """What a command prints, where nobody is at home and git knows nothing."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    finished = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def wheel(shared: Path) -> Path:
    """The package, made as a release of it makes it: an sdist, and a wheel of that."""

    def make(folder: Path) -> None:
        build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
        subprocess.run([*build, "sdist"], cwd=TOP, check=True, capture_output=True)
        (sdist,) = folder.glob("*.tar.gz")
        unpack(sdist, folder)
        subprocess.run([*build, "wheel"], cwd=folder / sdist.name.removesuffix(".tar.gz"), check=True)

    (made,) = once(shared / "package", make).glob("*.whl")
    return made


def pip(programs: Path) -> list[str]:
    """The pip of the tests, for another environment."""
    return [sys.executable, "-m", "pip", "--python", str(programs / "python")]


@pytest.fixture(scope="session")
def fresh(wheel: Path, shared: Path) -> Path:
    """The programs of an environment that has the package and what it needs; no extras, none of the tests' packages."""

    made = shared / "fresh"  # an environment knows where it is, so it is not made elsewhere and moved

    def make(_: Path) -> None:
        venv.create(made, clear=True)
        # To install pip too, and to compile what no test imports, takes two thirds of the time.
        command = [*pip(made / SCRIPTS), "install", "--quiet", "--no-compile", str(wheel)]
        subprocess.run(command, check=True, capture_output=True)

    once(shared / "fresh.made", make)
    return made / SCRIPTS


def test_the_wheel_holds_the_package_and_what_travels_with_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if "dist-info" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "src", "queries", "schemas"], cwd=TOP, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    expected = {name.removeprefix("src/") for name in listed.stdout.splitlines() if name.startswith("src/")}
    expected |= {f"idc_indexer/{name}" for name in listed.stdout.splitlines() if not name.startswith("src/")}
    assert names == expected | {"idc_indexer/LICENSE"}
    assert {"idc_indexer/py.typed", "idc_indexer/sample/idc_v25/dicom_all/000000000000.parquet"} <= names


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        text = archive.read(name)
    metadata = Metadata.from_email(text, validate=True)
    assert (metadata.name, str(metadata.version)) == ("idc-indexer", idc_indexer.__version__)
    assert metadata.description_content_type == "text/markdown"
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert {"Typing :: Typed", "Operating System :: OS Independent"} <= set(metadata.classifiers or [])
    extras = set(metadata.provides_extra or [])
    explained = prose(TOP / "docs" / "quickstart.md")
    assert all(f"`{extra}` " in explained for extra in extras - {"dev"})
    needed = [Requirement(line) for line in BytesParser().parsebytes(text).get_all("Requires-Dist", [])]
    plain = {requirement.name for requirement in needed if requirement.marker is None}
    assert not {name for name in plain if name.startswith("google")}


def test_it_is_installed_without_what_only_some_need(fresh: Path, tmp_path: Path) -> None:
    installed = done(*pip(fresh), "list", "--format=freeze", folder=tmp_path)
    names = {line.partition("==")[0].lower() for line in installed.splitlines()}
    assert "idc-indexer" in names
    assert not names & {"google-cloud-storage", "google-cloud-bigquery", "grpcio", "pytest", "numpy", "pandas"}
    assert f"version {idc_indexer.__version__}" in done(
        fresh / "python", "-m", "idc_indexer", "--version", folder=tmp_path
    )


@pytest.fixture(scope="session")
def alone(fresh: Path, shared: Path) -> str:
    """A PATH that has the command and nothing of its environment, as after pipx or uv, and a bare Python."""

    def make(folder: Path) -> None:
        (folder / "idc-indexer").symlink_to(fresh / "idc-indexer")

    return os.pathsep.join([str(once(shared / "alone", make)), f"{sys.base_prefix}/bin", os.defpath])


@posix
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_all_that_the_documents_show_runs_in_it(page: Path, alone: str, tmp_path: Path) -> None:
    shown = [block for block in blocks(page, "sh") if "pip install" not in block]
    if not shown:
        pytest.skip("shows no commands that run")
    done("bash", "-ec", "\n".join(shown), folder=tmp_path, PATH=alone)


@posix
@pytest.mark.parametrize(
    ("words", "number", "offered"), [("idc-indexer b", 1, "build"), ("idc-indexer build --eng", 2, "--engine")]
)
def test_completion(words: str, number: int, offered: str, fresh: Path, tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = done(fresh / "idc-indexer", folder=tmp_path, _IDC_INDEXER_COMPLETE=f"{shell}_source")
        assert "_IDC_INDEXER_COMPLETE" in script
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(number), "_IDC_INDEXER_COMPLETE": "bash_complete"}
    assert f"plain,{offered}" in done(fresh / "idc-indexer", folder=tmp_path, **asked).splitlines()


REACHED = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
"""How this machine reaches the registry."""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("page", ["adding-an-index", "quickstart"])
def test_what_the_documents_show_runs_with_all_that_it_installs(page: str, alone: str, tmp_path: Path) -> None:
    """Also the blocks with pip: the wheel in the idc-index client, and a reader of Parquet."""
    shown = "\n".join(blocks(TOP / "docs" / f"{page}.md", "sh"))
    assert "pip install" in shown
    output = done("bash", "-ec", shown, folder=tmp_path, PATH=alone, **REACHED)
    if page == "adding-an-index":
        assert re.search(r"vendor +series\n0 +Leica Biosystems +\d+\n", output)
    else:
        assert "[('4d_lung', 20), " in output


@pytest.mark.slow
@posix
def test_the_researchers_block_runs_after_pipx_and_uv(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "tools", with_pip=True)
    tools = tmp_path / "tools" / "bin"
    subprocess.run([tools / "python", "-m", "pip", "install", "--quiet", "pipx", "uv"], check=True)
    page = (TOP / "docs" / "quickstart.md").read_text(encoding="utf-8")
    section = page.partition("## For a researcher")[2].partition("\n## ")[0]
    block = "\n".join(body for kind, body in FENCED.findall(section) if kind == "sh")
    assert "idc-indexer list collections_index" in block
    for program, *install in (("pipx", "install"), ("uv", "tool", "install")):
        folder = tmp_path / program
        folder.mkdir()
        found = os.pathsep.join([f"{folder}/home/.local/bin", f"{sys.base_prefix}/bin", os.defpath])
        where = {**REACHED, "UV_SYSTEM_CERTS": "true", "PATH": found}
        done(tools / program, *install, wheel, folder=folder, **where)
        assert "rebuilt: OK\n" in done("bash", "-ec", block, folder=folder, **where)


@pytest.mark.slow
@posix
def test_pipx_and_uv_run_it_without_an_installation(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "tools", with_pip=True)
    tools = tmp_path / "tools" / "bin"
    subprocess.run([tools / "python", "-m", "pip", "install", "--quiet", "pipx", "uv"], check=True)
    found = f"{tools}:{os.defpath}"
    where = {**REACHED, "UV_SYSTEM_CERTS": "true", "PATH": found}
    version = f"version {idc_indexer.__version__}"
    assert version in done("uvx", "--from", wheel, "idc-indexer", "--version", folder=tmp_path, **where)
    assert version in done("pipx", "run", "--spec", wheel, "idc-indexer", "--version", folder=tmp_path, **where)
    assert shutil.which("uvx", path=found)

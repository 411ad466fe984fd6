"""The `idc-index` client answers the same from our wheel as from the published one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from idc_indexer.catalog import Catalog
from idc_indexer.publish.wheel import build_wheel
from tests.conftest import PUBLISHED, Run, once
from tests.indices.test_readers import environment
from tests.support.reference_export import export

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "readers" / "client.py"
CLIENT = "idc-index==0.13.4"


@pytest.fixture(scope="module")
def client() -> Path:
    """Packages of the client, with the published data."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), CLIENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return once(environment(CLIENT), make)


@pytest.fixture
def ours(published: Path, run: Run, tmp_path: Path) -> Path:
    """Our wheel, unpacked: of the full reference export, IDC_INDEXER_TEST_EXPORT if that is at hand."""
    source = os.environ.get("IDC_INDEXER_TEST_EXPORT")
    if source is None:
        source = str(tmp_path / "export")
        export(published, Path(source), attributes=False)
    names = [name for name, index in Catalog().indices.items() if index.schema.in_wheel]
    arguments = f"--idc-version 25 --release-version {PUBLISHED} --memory-limit 6GB".split()
    built = run("build", *names, "--source", source, *arguments, "--out", tmp_path / "release")
    assert built.exit_code == 0, built.stderr
    with zipfile.ZipFile(build_wheel(tmp_path / "release", tmp_path / "dist")) as wheel:
        wheel.extractall(tmp_path / "ours")
    return tmp_path / "ours"


def answers(*places: Path) -> Any:
    """What the client answers with these packages, the first ones before the others."""
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPT)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_client_answers_the_same(client: Path, ours: Path, tmp_path: Path) -> None:
    bare = tmp_path / "client"
    shutil.copytree(client, bare, ignore=shutil.ignore_patterns("idc_index_data*"))
    with_ours, with_theirs = answers(ours, bare), answers(client)
    # The wheel has the indices that were built; of the others it has no schema to tell of.
    others = with_theirs["indices"].keys() - with_ours["indices"].keys()
    for name in others:
        assert not with_theirs["indices"].pop(name)[0]
    assert len(with_ours["indices"]) == 5
    assert with_ours == with_theirs
    assert len(with_ours["collections"]) > 100

"""The programs that read the descriptions of a release: DuckDB over HTTP, old and new, and Croissant's loader."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idc_indexer.release.manifest import folder as published_folder
from idc_indexer.report import write_report
from tests.conftest import once
from tests.emulators.s3 import S3Server, Seen
from tests.indices.test_layout import HTTPFS
from tests.indices.test_readers import environment, node, run

pytestmark = pytest.mark.slow


def python(packages: list[str], script: str, *arguments: object) -> Any:
    """The JSON that a script prints, run in an environment with these packages."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *packages]
        subprocess.run(command, check=True)

    path = once(environment(" ".join(packages).replace("==", "-")), make)
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# --- DuckDB -------------------------------------------------------------------------------------------------------

CONNECTED = """
import json, sys
from pathlib import Path
import duckdb, duckdb_extension_httpfs
(extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
connection = duckdb.connect(config={"allow_unsigned_extensions": True, "threads": 2})
duckdb.set_default_connection(connection)
connection.execute(f"LOAD '{extension}'")
"""
ATTACHED = f"""{CONNECTED}
connection.execute("ATTACH '" + sys.argv[1] + "' AS idc")
print(json.dumps([connection.execute(sql).fetchall() for sql in sys.argv[2:]], default=str))
"""
QUESTIONS = (
    "SELECT count(*) FROM idc.idc_index WHERE collection_id = 'tcga_luad' AND Modality = 'CT'",
    "SELECT count(DISTINCT PatientID) FROM idc.idc_index",
    "SELECT Modality, round(sum(series_size_MB)) FROM idc.idc_index GROUP BY 1 ORDER BY 1",
    "SELECT comment FROM duckdb_columns() WHERE table_name = 'ct_index' AND column_name = 'KVP'",
    "SELECT count(*) FROM (SELECT unnest(sources) FROM idc.collections_index)",
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, str]]:
    """The sample release at an address on loopback, and the address."""
    root = tmp_path_factory.mktemp("published")
    with S3Server({"public": root}) as s3:
        out = root / published_folder("25.0.0")
        out.parent.mkdir()
        command = [sys.executable, "-m", "idc_indexer", "build", "--source", "sample", "--release-version", "25.0.0"]
        command += ["--out", str(out), "--published-at", f"{s3.url}/public"]
        subprocess.run(command, check=True, capture_output=True)
        yield s3, f"{s3.url}/public/{published_folder('25.0.0')}"


def test_attached_over_http(published: tuple[S3Server, str]) -> None:
    s3, address = published
    s3.clear()
    python(HTTPFS, ATTACHED, f"{address}idc.duckdb")
    attach = s3.seen()
    assert sum(attach.requests.values()) <= 10
    assert attach.total <= 1_500_000
    s3.clear()
    (answer,) = python(HTTPFS, ATTACHED, f"{address}idc.duckdb", "SELECT count(*) FROM idc.ct_index WHERE KVP = 120")
    counted = s3.seen()
    assert answer[0][0] > 0
    assert sum(counted.requests.values()) - sum(attach.requests.values()) <= 5
    answers = python(HTTPFS, ATTACHED, f"{address}idc.duckdb", *QUESTIONS)
    assert all(rows and rows[0][0] for rows in answers[1:])
    assert len(answers) == 5


def test_attached_by_duckdb_wasm(published: tuple[S3Server, str]) -> None:
    s3, address = published

    def ask(*questions: str) -> tuple[list[list[list[Any]]], Seen]:
        s3.clear()
        return json.loads(run("node", node() / "attach_duckdb_wasm.mjs", address, *questions)), s3.seen()

    _, attach = ask()
    assert 0 < sum(attach.requests.values()) <= 10
    assert 0 < attach.total <= 1_500_000
    (answer,), counted = ask("SELECT count(*) FROM idc.ct_index WHERE KVP = 120")
    assert answer[0][0] > 0
    assert sum(counted.requests.values()) - sum(attach.requests.values()) <= 5
    answers, _ = ask(*QUESTIONS)
    assert answers == python(HTTPFS, ATTACHED, f"{address}idc.duckdb", *QUESTIONS)


def test_the_commands_of_the_report_run(published: tuple[S3Server, str], sample_release: Path, tmp_path: Path) -> None:
    s3, address = published
    release = shutil.copytree(sample_release, tmp_path / "release")
    write_report(release, published=f"{s3.url}/public")
    text = (release / "report.html").read_text(encoding="utf-8")
    blocks = dict(re.findall(r'aria-label="(\w+) for all tables">(.*?)</pre>', html.unescape(text), re.DOTALL))
    assert f"ATTACH '{address}idc.duckdb' AS idc;" in blocks["SQL"]
    _, by_modality, comments = (statement for statement in blocks["SQL"].split(";") if statement.strip())
    answers = python(HTTPFS, ATTACHED, f"{address}idc.duckdb", by_modality, comments)
    assert sum(series for _, series in answers[0]) == 546
    assert len(answers[1]) == 31
    assert f"{by_modality.strip()};" in blocks["duckdb"]
    python(HTTPFS, f"{CONNECTED}{blocks['Python']}\nprint('[]')")


@pytest.mark.parametrize("version", ["1.0.0", "1.2.2", "1.5.5", "2.0.1"])
def test_old_and_new_duckdb_open_it(version: str, sample_release: Path) -> None:
    script = """
import json, sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
views = connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchone()
comments = connection.execute("SELECT count(*) FROM duckdb_columns() WHERE comment IS NOT NULL").fetchone()
files = connection.execute("SELECT count(*) FROM release").fetchone()
print(json.dumps([views[0], comments[0], files[0]]))
"""
    views, comments, files = python([f"duckdb=={version}"], script, sample_release / "idc.duckdb")
    assert views == 19
    assert comments > 200
    assert files > 70


# --- Croissant ----------------------------------------------------------------------------------------------------


def test_croissant_is_valid_and_loads_every_row(sample_release: Path) -> None:
    script = """
import json, logging, sys
from pathlib import Path
import mlcroissant
folder = Path(sys.argv[1])
document = json.loads((folder / "croissant.json").read_bytes())
files = {one["name"]: str(folder / one["name"]) for one in document["distribution"]}
dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"), mapping=files)
issues = dataset.metadata.ctx.issues
rows = {one["name"]: sum(1 for _ in dataset.records(one["name"])) for one in document["recordSet"]}
print(json.dumps([sorted(issues.errors), sorted(issues.warnings), rows]))
"""
    errors, warnings, rows = python(["mlcroissant==1.1.1", "pyarrow"], script, sample_release)
    assert (errors, warnings) == ([], [])
    document = json.loads((sample_release / "manifest.json").read_bytes())
    assert rows == {one["name"]: one["rows"] for one in document["indices"] + document["supplements"]}

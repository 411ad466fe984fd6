"""SQL of one's own without an account: what the messages suggest, and `--unproven`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Run

SCHEMA = {
    "table_description": "IDC releases.",
    "row": "IDC release",
    "in_wheel": False,
    "primary_key": ["idc_version"],
    "order": ["idc_version"],
    "references": [],
    "columns": [
        {"name": "idc_version", "type": "INTEGER", "mode": "NULLABLE", "description": "Number of the IDC release."},
        {"name": "k", "type": "FLOAT", "mode": "NULLABLE", "description": "A number."},
    ],
}
TABLE = "`bigquery-public-data.idc_current.version_metadata`"


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    """The options of an index `mine` that uses a function which is not supported."""
    (tmp_path / "mine.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    write(tmp_path, f"SELECT idc_version,\n  EXP(idc_version) AS k FROM {TABLE} ORDER BY idc_version")
    return ("--queries", str(tmp_path), "--schemas", str(tmp_path))


def write(folder: Path, sql: str) -> None:
    (folder / "mine.sql").write_text(sql, encoding="utf-8")


def test_unproven_builds_with_a_warning_that_the_manifest_keeps(run: Run, own: tuple[str, ...], tmp_path: Path) -> None:
    problem = "line 2: EXP is not supported on DuckDB"
    refused = run("explain", "mine", *own)
    assert refused.exit_code == 1
    assert problem in refused.stderr
    assert f"-- not proven: {problem}" in run("explain", "mine", *own, "--unproven").stdout
    build = ("build", "mine", *own, "--source", "sample", "--release-version", "25.0.0")
    assert problem in run(*build, "--out", tmp_path / "refused").stderr
    built = run(*build, "--out", tmp_path / "release", "--unproven")
    assert built.exit_code == 0
    assert f"mine.sql: {problem}: its rows may differ from those of BigQuery" in built.stderr
    manifest = json.loads((tmp_path / "release" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["engine"]["unproven"] == {"mine": [problem]}
    verified = run("verify", tmp_path / "release")
    assert verified.exit_code == 0
    assert f"mine: built with --unproven: {problem}" in verified.stderr


@pytest.mark.parametrize(
    ("sql", "problem", "hint"),
    [
        ("SELECT idc_versions AS idc_version, 1.0 AS k", "line 1: there is no column idc_versions", "idc_version?"),
        ("SELECT\n  IDC_Version AS idc_version, 1.0 AS k", "line 2: there is no column IDC_Version", "idc_version?"),
        (
            "SELECT newest AS idc_version, 1.0 AS k",
            "no column newest",
            '"columns": [{"name": "newest", "type": "STRING"}]',
        ),
        ("SELECT v.idc_version, 1.0 AS k", "line 1: no table is called v here", "version_metadata"),
    ],
)
def test_a_mistyped_column(run: Run, own: tuple[str, ...], tmp_path: Path, sql: str, problem: str, hint: str) -> None:
    write(tmp_path, f"{sql} FROM {TABLE} ORDER BY idc_version")
    message = run("explain", "mine", *own).stderr
    assert problem in message
    if "no table" not in problem:
        assert hint in message


def test_mistyped_tables_and_indices(run: Run, own: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, f"SELECT idc_version, 1.0 AS k FROM {TABLE.replace('metadata', 'metadat')} ORDER BY idc_version")
    assert "Did you mean version_metadata?" in run("explain", "mine", *own).stderr
    assert "Did you mean collections_index?" in run("explain", "collection_index").stderr

"""The house of docs/architecture.md: who imports whom, and what a command loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import idc_indexer

pytestmark = pytest.mark.project
PACKAGE = Path(idc_indexer.__file__).parent
TOP = Path(__file__).parents[2]


def test_imports_point_down_the_line_of_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    assert lint_imports(config_filename="pyproject.toml", cache_dir=None) == EXIT_STATUS_SUCCESS


def test_no_class_name_is_defined_twice() -> None:
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    names = Counter(node.name for tree in modules for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert len(names) > 50
    assert not [name for name, count in names.items() if count > 1]


def test_src_and_tests_never_import_scripts() -> None:
    scripts = {path.stem for path in (TOP / "scripts").glob("*.py")}
    for path in (*PACKAGE.rglob("*.py"), *(TOP / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not scripts & set(names), path


@pytest.mark.parametrize(
    "module",
    ["release.verify", "release.manifest", "publish.publish", "publish.promote", "publish.public_check", "diff"],
)
def test_commands_on_a_release_load_neither_the_sql_translator_nor_obstore(module: str) -> None:
    """What is verified, published or compared is a folder: it needs no queries and no exports."""
    program = f"import sys, idc_indexer.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert f"idc_indexer.{module}" in loaded
    assert not {"sqlglot", "obstore", "idc_indexer.catalog"} & set(loaded)

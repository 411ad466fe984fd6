"""The house of docs/architecture.md: who imports whom; and the tiers of the tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import idc_indexer
from tests.conftest import ON_BOTH_DUCKDB, TESTS, TIER_OF, TIERS, tier_of

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


COMMAND_LINES = 25


def test_a_command_parses_calls_and_prints() -> None:
    """Signature and body of a command, without decorators and the docstring, which is its help."""
    commands = {
        node.name: node.end_lineno - node.lineno + 1 - docstring_lines(node)
        for path in (PACKAGE / "cli").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.end_lineno
        if any(re.search(r"\.(command|group)\(|click\.group", ast.unparse(one)) for one in node.decorator_list)
    }
    assert len(commands) > 15
    assert {name: lines for name, lines in commands.items() if lines > COMMAND_LINES} == {}


def docstring_lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    return first.end_lineno - first.lineno + 1 if ast.get_docstring(function) and first.end_lineno else 0


LARGE = {"duckdb", "google", "httpx2", "huggingface_hub", "obstore", "sqlglot", "pyarrow"}


def loaded(module: str) -> set[str]:
    """Large libraries that a module loads in a fresh interpreter."""
    code = f"import sys, {module}; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return LARGE & {name.partition(".")[0] for name in names}


def test_the_command_line_loads_no_large_library() -> None:
    assert loaded("idc_indexer.cli") == set()


@pytest.mark.parametrize(
    "module",
    [
        "api.compare",
        "api.tables",
        "diff",
        "publish.promote",
        "publish.public_check",
        "publish.publish",
        "release.verify",
    ],
)
def test_commands_on_a_release_load_neither_the_sql_translator_nor_obstore(module: str) -> None:
    assert loaded(f"idc_indexer.{module}") <= {"duckdb", "pyarrow"}


def test_src_and_tests_never_import_scripts() -> None:
    scripts = {path.stem for path in (TOP / "scripts").glob("*.py")}
    for path in (*PACKAGE.rglob("*.py"), *(TOP / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not scripts & set(names), path


# --- Tiers ----------------------------------------------------------------------------------------------------

FILES = [path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")]


def test_every_file_of_tests_has_a_tier() -> None:
    """A test without a marker of its own has that of its file; conftest.py refuses one with two."""
    assert {tier_of(path) for path in FILES} == {*TIERS} - {"slow"}
    for name in (*TIER_OF, *ON_BOTH_DUCKDB):
        assert (TESTS / name).exists(), name


def test_unit_tests_get_no_published_data_and_no_evaluator(request: pytest.FixtureRequest) -> None:
    """That they start no process and open no connection is held while they run, in conftest.py."""
    for item in request.session.items:
        if item.get_closest_marker("unit"):
            assert isinstance(item, pytest.Function)
            assert "packages" not in item.fixturenames, item.nodeid
    for path in FILES:
        if tier_of(path) == "unit":
            tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
            names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not [name for name in names if name.startswith("tests.emulators")], path

"""The public interface: what it names, what it loads, and that the examples of docs/api.md run."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import idc_indexer
from idc_indexer.errors import UsageError

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
FUNCTIONS = [name for name in idc_indexer.__all__ if name[0].islower()]


def test_the_examples_of_the_docs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)  # noqa: S102 -- as a reader would run it
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("25.0.0 ")
    assert printed[1:4] == ["['collections_index']", f"{printed[0].split()[1]} collection_name 3", "True"]
    assert "equal" in printed[4]
    assert printed[5] == "25.0.1"
    assert "99.0.0" in printed[6]


def test_every_name_is_explained_and_there_are_no_others() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(idc_indexer.__all__) == [*idc_indexer.__all__]
    assert {name for names in idc_indexer._ROOMS.values() for name in names} == set(idc_indexer.__all__)
    for name in FUNCTIONS:
        assert f"`{name}`" in page, name
    table = page.partition("|---|---|")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+_\w+)`", table))
    assert named == set(FUNCTIONS) - {"show_progress"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_typed_documented_and_take_keywords(name: str) -> None:
    function = inspect.unwrap(getattr(idc_indexer, name))
    assert function.__doc__
    parameters = inspect.signature(function).parameters.values()
    assert all(parameter.annotation is not parameter.empty for parameter in parameters)
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    # what has a default is given by keyword; `own` of list_indices is its only argument
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty]
    assert [p.name for p in positional] in ([], ["own"])


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = idc_indexer.no_such_name
    assert set(idc_indexer.__all__) < set(dir(idc_indexer))


def test_the_import_loads_nothing() -> None:
    """Seconds depend on the machine, modules do not: 2 ms of Python's own, measured with -X importtime."""
    code = "import sys; before = set(sys.modules); import idc_indexer; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "idc_indexer" in loaded
    assert [name for name in loaded if name.startswith("idc_indexer.")] == []
    assert {name.partition(".")[0] for name in loaded} - {"idc_indexer"} <= set(sys.stdlib_module_names)


def test_tables_of_a_release(small_releases: dict[str, Path], tmp_path: Path) -> None:
    with idc_indexer.open_release(small_releases["25.0.0"]) as tables:
        assert tables.version == "25.0.0"
        name = tables.names[0]
        table, relation = tables.arrow(name), tables.relation(name)
        assert table.num_rows == len(relation.fetchall()) > 0
        assert isinstance(table, pa.Table)
        assert tables.connection.sql(f"SELECT count(*) FROM {name}").fetchall() == [(table.num_rows,)]
        assert isinstance(relation, duckdb.DuckDBPyRelation)
        schema = tables.schema(name)
        assert schema is not None
        assert [column["name"] for column in schema["columns"]] == table.schema.names
        with pytest.raises(UsageError, match=f"no table nothing\nThere are: {name}"):
            tables.arrow("nothing")
    with pytest.raises(UsageError, match="no such folder"), idc_indexer.open_release(tmp_path / "none"):
        pass


def test_usage_errors_come_before_any_work(small_releases: dict[str, Path], tmp_path: Path) -> None:
    release = small_releases["25.0.0"]
    with pytest.raises(UsageError, match="--against"):
        idc_indexer.verify_release(release, accept={"rows:x": "why"})
    with pytest.raises(UsageError, match="--promote"):
        idc_indexer.publish_release(release, to=tmp_path / "published", rollback=True)
    assert list(tmp_path.iterdir()) == []

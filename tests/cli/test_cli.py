"""A new user's first hour with the command line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pytest

import idc_indexer
from idc_indexer.cli import main
from idc_indexer.cli.group import _TASKS
from idc_indexer.errors import IndexerError
from tests.conftest import BUNDLED, INDICES, SUPPLEMENTS, Build, Run, Start, TinyExport, add_index, refused

COMMANDS = ["list", "explain", "releases", "build", "stage", "verify", "diff", "report"]
COMMANDS += ["wheel", "publish", "promote", "adopt", "withdraw", "status", "check", "doctor"]
IN_ORDER = [*COMMANDS[:5], "cache", *COMMANDS[5:], "bucket"]
GROUPS = {"bucket": ["setup"], "cache": ["remove"]}
ALL = [[command] for command in COMMANDS] + [[group, command] for group, of in GROUPS.items() for command in of]


def command_at(path: list[str]) -> click.Command:
    """The command of that name, which may be in a group."""
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_help_names_every_command(run: Run) -> None:
    for option in ("--help", "-h"):
        result = run(option)
        assert (result.exit_code, result.stderr) == (0, "")
        assert re.findall(r"^  (\w+)  ", result.stdout, re.MULTILINE) == IN_ORDER
        assert not re.findall(r"\.\.\.$", result.stdout.partition("Options:")[2], re.MULTILINE)
        assert re.findall(r"^(\w.*):$", result.stdout, re.MULTILINE) == ["Options", *dict.fromkeys(_TASKS.values())]
        assert f"  Documentation: {idc_indexer.REPOSITORY}#readme\n" in result.stdout
    assert set(main.commands) == {*COMMANDS, *GROUPS}
    for group, commands in GROUPS.items():
        assert re.findall(r"^  (\w+)  ", run(group, "--help").stdout, re.MULTILINE) == sorted(commands)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_has_an_example_that_parses(
    command: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("release").mkdir()
    result = run(*command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    (example,) = re.findall(r"^  Example:\n    idc-indexer (.+)$", result.stdout, re.MULTILINE)
    words = shlex.split(example)
    assert words[: len(command)] == command
    command_at(command).make_context(command[-1], words[len(command) :])


def test_every_option_has_help(run: Run) -> None:
    for path in ALL:
        for parameter in command_at(path).params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts}"
                assert parameter.opts[0] in run(*path, "--help").stdout


def test_every_command_has_json() -> None:
    assert [
        path for path in ALL if "--json" not in [name for one in command_at(path).params for name in one.opts]
    ] == []


@pytest.mark.emulator
def test_version() -> None:
    version = importlib.metadata.version("idc-indexer")
    assert version == idc_indexer.__version__
    done = subprocess.run(
        [sys.executable, "-m", "idc_indexer", "--version"], check=True, capture_output=True, text=True
    )
    assert version in done.stdout
    assert done.stderr == ""


HEAVY = ("duckdb", "filelock", "google", "pyarrow", "sqlglot", "jsonschema", "rich", "obstore", "boto3")


@pytest.mark.emulator
@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], *([*command, "--help"] for command in ALL)])
def test_help_is_quick(arguments: list[str]) -> None:
    """None of the large libraries is loaded before a command has something to do."""
    invoke = f"from idc_indexer.cli import main; main({arguments}, standalone_mode=False)" if arguments else ""
    loaded = python(f"import sys, idc_indexer; {invoke}\nprint(); print(*sys.modules)").splitlines()[-1].split()
    assert "idc_indexer" in loaded
    assert set(HEAVY) & {name.split(".")[0] for name in loaded} == set()


# --- Mistakes -----------------------------------------------------------------------------------------------

MISTAKES = [
    (["--frobnicate"], "No such option '--frobnicate'"),
    (["built"], "No such command 'built'"),
    (["list", "--jsn"], "No such option '--jsn'"),
    (["list", "no_such_index"], "no index is called no_such_index"),
    (["explain"], "Missing argument 'INDEX'"),
    (["explain", "no_such_index"], "no index is called no_such_index"),
    (["explain", "idc_index", "--engine", "spark"], "'spark' is not one of 'duckdb', 'bigquery'"),
    (["explain", "idc_index", "--idc-version", "v25"], "'v25' is not a valid integer"),
    (["explain", "idc_index", "--idc-version", "-3"], "--idc-version"),
    (["build"], "Missing option '--out'"),
    (["build", "--out", "x", "--idc-version", "25"], "Missing option '--release-version'"),
    (["verify"], "Missing argument 'DIR'"),
    (["verify", "/no/such/folder"], "/no/such/folder"),
    (["publish"], "Missing argument 'DIR'"),
    (["status", "--to", "/no/such/folder"], "/no/such/folder: no such folder"),
    (["promote", "25.0.0", "--to", "/no/such/folder"], "/no/such/folder: no such folder"),
    (["diff", "25.0.5", "/no/such/folder"], "/no/such/folder: no such folder, and not a version"),
    (["diff", "25.0.5", "/no/such.whl"], "/no/such.whl: no such file"),
    (["withdraw", "25.0.0", "--to", "x"], "Missing option '--reason'"),
    (["publish", ".", "--to", "x", "--allow-withdrawn"], "--allow-withdrawn needs --promote"),
    (["build", "--out", "x", "--max-bytes-billed", "many"], "'many' is no number of bytes"),
    (["publish", "/no/such/folder", "--to", "x"], "/no/such/folder"),
    (["promote", "25.0.0"], "Missing option '--to'"),
    (["promote", "--to", "x"], "Missing argument 'VERSION'"),
    (["status"], "Missing option '--to'"),
    (["status", "--to", "s3://x"], "is not a store to publish to"),
    (["check", "x"], "not an address of published files"),
    (["bucket", "setup", "--to", "x"], "not a bucket"),
    (["stage"], "Missing option '--idc-version'"),
    (["cache", "remove"], "nothing to remove is named"),
    (["cache", "remove", "idc_v25", "--all"], "nothing to remove is named"),
    (["list", "--queries", "/no/such/folder"], "/no/such/folder"),
    (["list", "--schemas", "/no/such/folder"], "/no/such/folder"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_mistake_is_named(arguments: list[str], message: str, run: Run) -> None:
    result = run(*arguments)
    refused(result, 2)
    assert message.replace("'", "") in result.stderr.replace("'", "")
    assert result.stderr.count("Error: ") == 1


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Example" not in result.output
    assert all(f"  {command} " in result.output for command in COMMANDS)


@pytest.mark.emulator
def test_error_in_a_process_of_its_own(start: Start, tmp_path: Path) -> None:
    """One message, no traceback; what went on inside is for those who ask."""
    process = start(tmp_path / "nowhere")
    assert process.communicate() == (
        "",
        f"Error: {tmp_path / 'nowhere'}: no such folder\n"
        "Give a folder that holds idc_vNN/<table>/*.parquet, or 'sample'.\n",
    )
    assert process.returncode == 2


@pytest.mark.parametrize("command", ALL, ids=" ".join)
@pytest.mark.parametrize("given", ["IDC_INDEXER_VERBOSE", "before", "within", "after"])
def test_traceback_on_request(
    command: list[str], given: str, run: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """-v holds wherever it stands; here, whatever a command does fails."""

    def fail(_: click.Context, /, **__: object) -> None:
        raise IndexerError("it failed")

    monkeypatch.setattr(command_at(command), "callback", click.pass_context(fail))
    monkeypatch.setattr(command_at(command), "params", [one for one in command_at(command).params if not one.required])
    words = {"before": ["-v", *command], "within": [command[0], "-v", *command[1:]], "after": [*command, "--verbose"]}
    if given not in words:
        environment[given] = "1"
    result = run(*words.get(given, command))
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert result.stderr.endswith("IndexerError: it failed\nError: it failed\n")
    assert result.stderr.count("Traceback") == 1
    environment.clear()
    assert run(*command).stderr == "Error: it failed\n"


# --- What there is ------------------------------------------------------------------------------------------


def test_list_is_a_table(run: Run) -> None:
    result = run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *lines = result.stdout.splitlines()
    assert head.split("  ", 1)[0] == "index"
    assert [line.split()[0] for line in lines] == [*BUNDLED, *SUPPLEMENTS]
    assert re.search(r"^idc_index +31  yes    DICOM series$", result.stdout, re.MULTILINE)
    assert re.search(r"^ct_index +21  no     CT series$", result.stdout, re.MULTILINE)
    documents = json.loads(run("list", "--json").stdout)
    assert list(documents) == [*BUNDLED, *SUPPLEMENTS]
    assert documents["idc_index"]["primary_key"] == ["SeriesInstanceUID"]
    assert len(documents["idc_index"]["columns"]) == 31


def test_list_describes_what_is_named(run: Run) -> None:
    names = ["ct_index", "tcia_idc_subset"]
    result, documents = run("list", *names), json.loads(run("list", *names, "--json").stdout)
    assert (result.exit_code, list(documents)) == (0, names)
    assert [line.partition(":")[0] for line in result.stdout.splitlines() if ": one row for each " in line] == names
    plain = " ".join(result.stdout.split())
    for document in documents.values():
        assert document["table_description"] in plain
        assert f"key: {', '.join(document['primary_key'])} order: {', '.join(document['order'])} " in plain
        for column in document["columns"]:
            assert re.search(rf"column {column['name']}: [A-Z0-9<>]+ {re.escape(column['description'])}", plain)
    assert "reference: SeriesInstanceUID to SeriesInstanceUID of idc_index" in plain


@pytest.mark.parametrize("version", [0, 25])
@pytest.mark.parametrize("index", BUNDLED)
def test_explain_shows_sql_that_duckdb_understands(index: str, version: int, run: Run) -> None:
    text = run("explain", index, "--idc-version", version)
    document = run("explain", index, "--idc-version", version, "--json")
    assert (text.exit_code, text.stderr, document.exit_code, document.stderr) == (0, "", 0, "")
    explained = json.loads(document.stdout)
    past = (24 if version else 1) if index in ("prior_versions_index", "series_history") else 0
    assert (explained["index"], explained["engine"], len(explained["sql"])) == (index, "duckdb", past + 1)
    with duckdb.connect() as connection:
        for sql in explained["sql"]:
            (statement,) = connection.extract_statements(sql)
            assert statement.type == duckdb.StatementType.SELECT
        assert len(connection.extract_statements(text.stdout)) == past + 1
    assert explained["reads"]
    assert all(f"-- reads {table}:\n" in text.stdout for table in explained["reads"])


@pytest.mark.parametrize("index", INDICES)
def test_explain_shows_the_googlesql_that_is_published(index: str, run: Run, sample_release: Path) -> None:
    result = run("explain", index, "--engine", "bigquery", "--idc-version", 25, "--json")
    (sql,) = json.loads(result.stdout)["sql"]
    assert sql.encode() == (sample_release / f"{index}.sql").read_bytes()
    assert "bigquery-public-data.idc_v25" in sql
    assert "idc_current" not in sql


def test_explain_says_what_is_read(run: Run) -> None:
    reads = json.loads(run("explain", "collections_index", "--idc-version", 25, "--json").stdout)["reads"]
    (columns,) = reads.values()
    assert list(reads) == ["idc_v25.original_collections_metadata"]
    assert {"collection_id", "sources.license.license_url", "sources.provenance.data_contributor"} < set(columns)
    assert "sources" not in columns
    older = json.loads(run("explain", "collections_index", "--idc-version", 23, "--json").stdout)["reads"]
    assert "CancerTypes" in older["idc_v23.original_collections_metadata"]


# --- Output -------------------------------------------------------------------------------------------------


def test_results_on_stdout_and_progress_on_stderr(tiny: TinyExport, run: Run, build: Build, out: Path) -> None:
    result = build(tiny, "collections_index", "--json")
    assert json.loads(result.stdout) == json.loads((out / "manifest.json").read_text())
    *steps, end = result.stderr.splitlines()
    assert steps == ["checking", "building collections_index (1 of 1)", "done collections_index: 3 rows (1 of 1)"]
    assert re.fullmatch(r"built 1 table in \d+ s", end)
    result = build(tiny, "collections_index", "--force")
    (line,) = result.stdout.splitlines()
    assert re.fullmatch(r"collections_index\.parquet: 3 rows, [\d.]+ kB, sha256 [0-9a-f]{64}", line)
    assert json.loads(run("verify", out, "--json").stdout) == {"problems": []}


@pytest.mark.emulator
def test_any_letter_gets_through_a_pipe(small_releases: dict[str, Path], tmp_path: Path) -> None:
    """As on Windows, where a pipe would have the code page of the country."""
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "Łódź→")
    done = subprocess.run(
        [sys.executable, "-m", "idc_indexer", "verify", release],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{release}: OK{os.linesep}", b"")


def test_options_from_the_environment(tiny: TinyExport, run: Run, out: Path, environment: dict[str, str]) -> None:
    environment["IDC_INDEXER_SOURCE"] = str(tiny)
    arguments = ("--idc-version", 25, "--release-version", "25.0.0", "--out", out)
    assert run("build", "version_metadata_index", *arguments).exit_code == 0
    environment["IDC_INDEXER_SOURCE"] = str(tiny.root / "nowhere")
    refused(
        run("build", "version_metadata_index", *arguments, "--force"), 2, f"{tiny.root / 'nowhere'}: no such folder"
    )


# --- Files of one's own that are wrong ----------------------------------------------------------------------

SELECT = "SELECT idc_version FROM `bigquery-public-data.idc_current.version_metadata` ORDER BY idc_version"
WRONG = [
    (b"", "mine.sql: must be exactly one SELECT"),
    (b"SELECT \xff", "mine.sql"),
    (b"DROP TABLE x", "mine.sql: must be exactly one SELECT"),
    (b"SELECT FROM WHERE", "not GoogleSQL"),
    (f"{SELECT}; {SELECT}".encode(), "mine.sql: must be exactly one SELECT"),
    (SELECT.replace("version_metadata", "no_such_table").encode(), "table idc_current.no_such_table is not known"),
    (SELECT.replace("bigquery-public-data", "my-project").encode(), "my-project.idc_current.version_metadata"),
    (SELECT.replace("idc_version", "no_such_column").encode(), "no_such_column"),
    (SELECT.replace(" ORDER BY idc_version", "").encode(), "ORDER BY nothing, in the schema the order is idc_version"),
    (SELECT.replace("idc_version FROM", "version_hash AS idc_version FROM").encode(), "column idc_version is STRING"),
    (SELECT.replace("idc_version FROM", "idc_version, version_hash FROM").encode(), "2 columns, in the schema 1"),
]


@pytest.mark.parametrize(("query", "message"), WRONG)
def test_wrong_query_is_named(query: bytes, message: str, run: Run, tmp_path: Path) -> None:
    add_index(tmp_path, "mine", SELECT, idc_version="INTEGER")
    mine = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    assert run("explain", "mine", *mine).exit_code == 0
    (tmp_path / "queries" / "mine.sql").write_bytes(query)
    refused(run("explain", "mine", *mine), 1, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": []}, "mine.json: $.columns"),
        ({"primary_key": ["no_such"]}, "mine.json: no_such is not among the columns"),
        ({"colour": "blue"}, "mine.json: $: "),
        (None, "mine.json: not JSON"),
    ],
)
def test_wrong_schema_is_named(change: dict[str, object] | None, message: str, run: Run, tmp_path: Path) -> None:
    add_index(tmp_path, "mine", SELECT, idc_version="INTEGER")
    path = tmp_path / "schemas" / "mine.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    refused(run("list", "--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas"), 1, message)


def test_query_without_a_schema_and_hostile_names(run: Run, tmp_path: Path) -> None:
    add_index(tmp_path, "mine", SELECT, idc_version="INTEGER")
    queries, schemas = tmp_path / "queries", tmp_path / "schemas"
    refused(run("list", "--queries", queries), 1, "index mine has a query and no schema", "--schemas")
    refused(run("list", "--schemas", schemas), 1, "index mine has a schema and no query", "--queries")
    for name in ("Mine.sql", "my index.sql", "mine'.sql", "mine.until_v0.sql", "1mine.sql"):
        (queries / name).write_text(SELECT)
        refused(run("list", "--queries", queries, "--schemas", schemas), 1, f"{queries / name}: a query file is named")
        (queries / name).unlink()

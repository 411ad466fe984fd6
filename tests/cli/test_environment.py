"""What a shell, a workflow, a container or a hostile name can do to a command: one line, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import google.auth.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.cli import completion, main
from idc_indexer.cli.options import INDICES_VARIABLE, Argument, Bytes, Option
from idc_indexer.errors import printable
from idc_indexer.google_errors import credentials_problem
from tests.cli.test_cli import ALL, GROUPS, command_at
from tests.conftest import BUNDLED, RELEASE, SUPPLEMENTS, Run, TinyExport, add_index, contents, refused
from tests.emulators.places import Place

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs file names or devices that Windows does not have")

Releases = dict[str, Path]


def cli(*arguments: object, first: str = "", folder: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """A command in a process of its own, and Python that runs before it: exit code, stdout and stderr."""
    program = f"{first}\nfrom idc_indexer.cli import main\nmain(prog_name='idc-indexer')"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# --- Empty values -------------------------------------------------------------------------------------------------

PATHS = [*ALL, *([group] for group in GROUPS)]


def parameters() -> Iterator[tuple[list[str], click.Parameter]]:
    """All commands and parameters that take a value."""
    for path in PATHS:
        for parameter in command_at(path).params:
            if parameter.name != "help" and not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield path, parameter


GIVEN = {"index": "ct_index", "old": "old", "new": "new", "version": "25.0.0", "url": "https://x/", "release": "."}


def words_with(path: list[str], parameter: click.Parameter, value: str) -> list[str]:
    """Words after a command: its arguments, and that value of a parameter."""
    words: list[str] = []
    for one in command_at(path).params:
        if one is parameter:
            words += [value] if isinstance(one, click.Argument) else [one.opts[0], value]
        elif isinstance(one, click.Argument) and one.required:
            words.append(GIVEN[str(one.name)])
    return words


@pytest.mark.parametrize("value", ["", " "], ids=["empty", "blank"])
@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_empty_value_is_refused(
    path: list[str], value: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `publish release --to "$TO"` where TO is not set: it would publish to the current folder."""
    monkeypatch.chdir(tmp_path)
    for of, parameter in parameters():
        if of == path:
            result = run(*path, *words_with(path, parameter, value))
            refused(result, 2, "the value is empty")
            name = (
                parameter.opts[0]
                if isinstance(parameter, click.Option)
                else parameter.make_metavar(click.Context(main))
            )
            assert f"Invalid value for '{name}'" in result.stderr
    assert contents(tmp_path) == {}


def test_every_parameter_goes_through_the_one_place() -> None:
    for path, parameter in parameters():
        assert isinstance(parameter, (Argument, Option)), f"{path} {parameter.name}"


def test_a_variable_has_the_name_of_its_option_in_every_command(run: Run) -> None:
    variables = {}
    for path in [[], *PATHS]:
        for parameter in command_at(path).params:
            if isinstance(parameter, Option) or parameter.envvar:
                name = f"IDC_INDEXER_{parameter.opts[-1].removeprefix('--').replace('-', '_').upper()}"
                if parameter.name == "indices":  # an argument of some commands, --index of another
                    name = INDICES_VARIABLE
                assert parameter.envvar == name
                variables[name] = parameter
                assert name in re.sub(r"\s+", "", run(*path, "--help").stdout)
    assert {"IDC_INDEXER_SOURCE", "IDC_INDEXER_VERBOSE", "IDC_INDEXER_JSON", INDICES_VARIABLE} < set(variables)


def test_an_empty_variable_is_not_set_and_a_blank_one_is_refused(run: Run, environment: dict[str, str]) -> None:
    environment["IDC_INDEXER_TO"] = ""
    refused(run("status"), 2, "Missing option '--to'")
    environment["IDC_INDEXER_TO"] = " "
    refused(run("status"), 2, "Invalid value for '--to' (env var: 'IDC_INDEXER_TO'): the value is empty")


# --- Home ---------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("how", ["--to=~/published", "IDC_INDEXER_TO"])
def test_a_tilde_that_no_shell_expanded_is_the_home(how: str, small_releases: Releases, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    release = small_releases["25.0.0"]
    words, variables = ([how], {}) if how[0] == "-" else ([], {how: "~/published"})
    done = cli("publish", release, *words, folder=tmp_path / "work", HOME=str(tmp_path / "home"), **variables)
    assert (done[0], done[2]) == (0, "")
    assert (tmp_path / "home" / "published" / "25.0.0" / "release_artifacts" / "manifest.json").is_file()
    assert list((tmp_path / "work").iterdir()) == []


@posix
def test_a_folder_whose_name_begins_with_a_tilde(
    tiny: TinyExport, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes it as it is; DuckDB would look in a home folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.root, "~export")
    result = run(
        "build", "collections_index", "--source", "~export", "--release-version", "25.0.0", "--out", "~release"
    )
    assert result.exit_code == 0, result.stderr
    assert run("verify", "~release").stdout == "~release: OK\n"


NO_HOME = """
import os, pwd
for name in ("HOME", "XDG_CACHE_HOME", "IDC_INDEXER_CACHE_DIR"): os.environ.pop(name, None)
def unknown(*_): raise KeyError("getpwuid(): uid not found: 12345")
pwd.getpwuid = unknown
"""


@posix
def test_a_user_without_a_home(tmp_path: Path) -> None:
    """As in a container that runs with an arbitrary uid. What needs no cache runs; what needs it says so."""
    build = ("build", "--source", "sample", "--release-version", "25.0.0", "--out")
    code, out, err = cli(*build, "release", "collections_index", first=NO_HOME, folder=tmp_path)
    assert (code, err.splitlines()[-2]) == (0, "done collections_index: 179 rows (1 of 1)")
    assert cli("verify", "release", first=NO_HOME, folder=tmp_path)[:2] == (0, "release: OK\n")
    assert cli("list", first=NO_HOME, folder=tmp_path)[0] == 0
    for needs_cache in ((*build, "other", "prior_versions_index"), ("cache",), ("cache", "remove", "--all")):
        code, out, err = cli(*needs_cache, first=NO_HOME, folder=tmp_path)
        assert (code, out) == (1, "")
        assert err.splitlines()[-2:] == [
            "Error: there is no folder for the cache: HOME is not set, and the system knows no home of this user",
            "Choose a folder with --cache-dir.",
        ]
    code, out, err = cli("status", "--to=~/published", first=NO_HOME, folder=tmp_path)
    assert (code, err.splitlines()[-1].partition("): ")[2]) == (
        2,
        "~/published: the system knows no home of this user.",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


# --- Output -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["list", "list --json", "--help", "build --help", "--version"])
def test_standard_output_on_a_full_disk(command: str) -> None:
    program = [sys.executable, "-m", "idc_indexer", *command.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


@posix
def test_a_reader_that_goes_away_ends_the_command_silently() -> None:
    program = [sys.executable, "-m", "idc_indexer", "explain", "prior_versions_index", "--idc-version", "25"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_no_temporary_folder(small_releases: Releases) -> None:
    release = small_releases["25.0.0"]
    first = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/no/such/folder']"
    code, out, err = cli("diff", release, release, first=first)
    assert (code, out) == (1, "")
    message, hint = err.splitlines()
    assert message.startswith("Error: no temporary folder can be made: No usable temporary directory found")
    assert "TMPDIR" in hint


@pytest.mark.parametrize("value", ["", "0", "1700000000000", "x", "-1", "9" * 5000])
def test_source_date_epoch_that_no_wheel_can_have(value: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    monkeypatch.chdir(Path(__file__).parent)
    refused(run("wheel", ".", "--out", "nowhere"), 1, f"Error: SOURCE_DATE_EPOCH is {value[:40]!r}, not the seconds")
    assert not Path("nowhere").exists()


# --- Names from outside -------------------------------------------------------------------------------------------

EVIL = "\x1b]0;title\x07\x1b[2J\u202e"
SHOWN = "\\u001b]0;title\\u0007\\u001b[2J\\u202e"


def hidden(text: str) -> set[str]:
    """Characters that a terminal could obey."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\n"}


@given(st.text())
def test_printable_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert hidden(printable(text)) <= {"\t"}
    assert "\n" not in printable(text, lines=False)
    assert printable(text) == text or hidden(text)


@given(st.recursive(st.text(), lambda below: st.lists(below) | st.dictionaries(st.text(), below)))
def test_json_stays_json(document: object) -> None:
    assert json.loads(printable(json.dumps(document, ensure_ascii=False, indent=2))) == document


@posix
def test_names_of_files_are_shown_escaped(small_releases: Releases, run: Run, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    (release / f"{EVIL}.parquet").touch()
    result = run("verify", release)
    assert (result.exit_code, hidden(result.output)) == (3, set())
    assert f"{SHOWN}.parquet: " in result.stdout
    problems = run("verify", release, "--json").stdout
    assert hidden(problems) == set()
    assert json.loads(problems)["problems"][0]["file"] == f"{EVIL}.parquet"
    refused(run("verify", tmp_path / EVIL), 2)
    result = run("diff", tmp_path / EVIL, release)
    assert (result.exit_code, hidden(result.output), SHOWN in result.stderr) == (2, set(), True)


@posix
def test_names_of_columns_are_shown_escaped(run: Run, tmp_path: Path) -> None:
    for name, value in (("old", 1), ("new", 2)):
        pq.write_table(pa.table({EVIL: ["a"], f"{EVIL} value": [value]}), tmp_path / f"{name}.parquet")
    for form in ((), ("--json",), ("--markdown",)):
        result = run("diff", tmp_path / "old.parquet", tmp_path / "new.parquet", "--key", EVIL, *form)
        assert (result.exit_code, hidden(result.output)) == (3, set()), result.stderr
        assert "title" in result.stdout
    refused(result := run("diff", tmp_path / "old.parquet", tmp_path / "new.parquet", "--index", EVIL), 2, SHOWN)
    assert hidden(result.output) == set()


@posix
def test_names_of_objects_are_shown_escaped(small_releases: Releases, run: Run, tmp_path: Path) -> None:
    published = tmp_path / "published"
    assert run("publish", small_releases["25.0.0"], "--to", published, "--promote").exit_code == 0
    (published / "current" / "release_artifacts" / EVIL).touch()
    result = run("status", "--to", published)
    assert (result.exit_code, hidden(result.output)) == (3, set())
    assert SHOWN in result.stdout


@posix
def test_names_in_an_export_are_shown_escaped(tiny: TinyExport, run: Run, tmp_path: Path) -> None:
    export = shutil.copytree(tiny.root, tmp_path / EVIL)
    build = ("build", "collections_index", "--source", export, "--release-version", "25.0.0", "--out", tmp_path / "out")
    shutil.rmtree(export / "idc_v25" / "original_collections_metadata")
    result = run(*build)
    refused(result, 1, SHOWN)
    assert hidden(result.output) == set()


def test_a_finding_names_the_option_that_accepts_it(small_releases: Releases, run: Run, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.0.1"], tmp_path / "release")
    result = run("verify", release, "--against", small_releases["25.0.0"])
    options = re.findall("^    to accept it: (.*)$", result.stdout, re.MULTILINE)
    assert result.exit_code == 3
    assert len(options) == len(re.findall(r"^[a-z]+:", result.stdout, re.MULTILINE)) > 0
    words = [word.replace("REASON", "known") for option in options for word in shlex.split(option)]
    result = run("verify", release, "--against", small_releases["25.0.0"], *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"{release}: OK\n")
    assert "to accept it" not in result.stdout


def test_the_group_has_no_parameters_of_its_own_that_take_values() -> None:
    assert [parameter.name for parameter in main.params if not getattr(parameter, "is_flag", False)] == []


# --- Messages -----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_told_before_any_request(run: Run, tmp_path: Path) -> None:
    """Nothing listens at that address: a request would be tried six times."""
    nowhere = "http://127.0.0.1:1/x"
    refused(run("diff", "25.0.5", tmp_path / "new", "--published-at", nowhere), 2, "new: no such folder")
    refused(run("diff", f"{nowhere}/release_artifacts/", tmp_path / "new"), 2, "new: no such folder")
    refused(run("status", "--to", tmp_path / "new"), 2, "new: no such folder")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--to", "gs://artifacts"),
        ("explain", "ct_index", "--engine", "bigquery", "--project", "my-project"),
        ("releases", "--source", "gs://artifacts/x"),
    ],
    ids=["gcs", "bigquery", "export"],
)
def test_a_missing_file_with_credentials_is_named(
    words: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    refused(run(*words), 1, f"GOOGLE_APPLICATION_CREDENTIALS={tmp_path / 'none.json'}: no such file")


CREDENTIALS: list[tuple[Callable[[Any], Exception], str]] = [
    (lambda auth: auth.RefreshError("invalid_grant: Token has been expired", {"x": "ya29.secret"}), "has expired"),
    (lambda auth: auth.RefreshError("Reauthentication is needed."), "has expired"),
    (lambda auth: auth.DefaultCredentialsError("none"), "there are no Google credentials"),
    (lambda auth: auth.MalformedError("ya29.secret"), "does not accept"),
    (
        lambda auth: auth.TransportError(requests.ConnectionError(request=requests.Request(url="https://t.org/x"))),
        "no connection to t.org",
    ),
]


@pytest.mark.parametrize(("make", "said"), CREDENTIALS, ids=range(len(CREDENTIALS)))
def test_a_problem_with_credentials_in_words(make: Callable[[Any], Exception], said: str) -> None:
    problem, hint = credentials_problem(make(google.auth.exceptions))
    assert said in problem
    assert hint
    assert "secret" not in problem + hint


def test_no_message_shows_the_json_that_it_is_about(run: Run, small_releases: Releases, tmp_path: Path) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    manifest = json.loads((release / "manifest.json").read_text())
    for broken in ({**manifest, "indices": {"a": 1}}, [manifest], {**manifest, "indices": [manifest]}):
        (release / "manifest.json").write_text(json.dumps(broken))
        result = run("verify", release)
        refused(result, 1, "manifest.json")
        assert "{" not in result.stderr
        assert len(result.stderr) < 300


def test_hints_install_what_the_extras_do() -> None:
    """The package is not on PyPI, so no hint and no page may install it from there."""
    top = Path(__file__).parents[2]
    pages = [top / "README.md", *(top / "docs").rglob("*.md"), *(top / "src").rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    assert [path.name for path, text in texts.items() if "pip install 'idc-indexer" in text] == []
    hints = {
        name
        for text in texts.values()
        for line in re.findall(r"pip install ('.*)", text)
        for name in re.findall(r"'([a-z][\w-]+>=[\d.]+)'", line)
    }
    pyproject = (top / "pyproject.toml").read_text(encoding="utf-8")
    assert hints == {
        "google-cloud-storage>=3",
        "google-cloud-bigquery>=3.30",
        "google-cloud-bigquery-storage>=2.27",
        "boto3>=1.34",
        "httpx2>=2",
        "huggingface_hub>=2",
    }
    assert all(f'"{name}"' in pyproject for name in hints)


@pytest.mark.parametrize(
    ("given", "size"), [("20MB", 20_000_000), ("1.5 gb", 1_500_000_000), ("512MiB", 1 << 29), ("7", 7), ("7B", 7)]
)
def test_bytes_are_given_as_people_write_them(given: str, size: int) -> None:
    assert Bytes().convert(given, None, None) == size


@pytest.mark.parametrize("given", ["many", "-1", "1e9", "5 XB", "1IB", "", "9" * 99])
def test_what_is_no_number_of_bytes(given: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like 20MB"):
        Bytes().convert(given, None, None)


# --- Completion ---------------------------------------------------------------------------------------------------


def completed(line: str, environment: dict[str, str]) -> list[str]:
    """What a shell offers for the last word of a line."""
    *words, incomplete = shlex.split(line) + ([""] if line.endswith(" ") else [])
    with CliRunner(env=environment).isolation():
        offered = ShellComplete(main, {}, "idc-indexer", "_IDC_INDEXER_COMPLETE").get_completions(words, incomplete)
    return [one.value if one.type == "plain" else f"({one.type})" for one in offered]


@pytest.mark.parametrize("words", ["build", "list", "stage", "explain", "diff --index", "wheel release --exclude"])
def test_names_of_indices_are_completed(words: str, environment: dict[str, str]) -> None:
    assert completed(f"{words} ", environment) == sorted([*BUNDLED, *SUPPLEMENTS])
    assert completed(f"{words} sm_", environment) == ["sm_index", "sm_instance_index"]


def test_indices_of_ones_own_are_completed(environment: dict[str, str], tmp_path: Path) -> None:
    add_index(tmp_path, "sm_mine", "SELECT 1", one="INTEGER")
    assert completed("list sm_", environment | {"IDC_INDEXER_SCHEMAS": str(tmp_path / "schemas")})[-1] == "sm_mine"
    assert completed(f"build --schemas {tmp_path}/schemas sm_", environment)[-1] == "sm_mine"


def test_versions_are_completed(place: Place, small_releases: Releases, run: Run, environment: dict[str, str]) -> None:
    for version in ("25.0.0", "25.0.1"):
        assert run("publish", small_releases[version], "--to", place.uri).exit_code == 0
    assert completed(f"promote --to {place.uri} ", environment) == ["25.0.0", "25.0.1"]
    assert completed("promote 25.0.1", environment | {"IDC_INDEXER_TO": place.uri}) == ["25.0.1"]
    assert completed("promote ", environment) == []


def test_releases_and_the_cache_are_completed(environment: dict[str, str], tiny: TinyExport, run: Run) -> None:
    assert completed("build --source sample --idc-version 2", environment) == ["2", *map(str, range(20, 26))]
    assert completed("stage --source /no/such/folder --idc-version ", environment) == []
    assert completed("explain ct_index --idc-version ", environment) == []
    assert completed("cache remove ", environment) == []
    assert run("build", "prior_versions_index", "--source", tiny, *RELEASE, "--out", tiny.root / "out").exit_code == 0
    assert completed("cache remove ", environment) == ["prior_extracts"]
    assert completed("cache --cache-dir /no/such/folder remove ", environment) == []


def test_a_completion_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    slow = completion.completes(lambda _: ["late"] if answered.wait() else [])
    monkeypatch.setattr(completion, "SECONDS", 0.01)
    command = main.commands["list"]
    assert slow(click.Context(command), command.params[0], "") == []
    answered.set()


@pytest.mark.parametrize("words", ["report . --against", "build --source", "diff", "diff old", "status --to"])
def test_files_are_completed_where_an_address_may_stand(words: str, environment: dict[str, str]) -> None:
    assert completed(f"{words} some", environment) == ["(file)"]

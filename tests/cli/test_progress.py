"""No command is mute: what a terminal and a log show of long operations, of retries and of Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from idc_indexer.cli.output import aggregated
from idc_indexer.cli.progress import LiveProgress, PlainProgress, fitted
from idc_indexer.http import ATTEMPTS, download, request
from idc_indexer.progress import Meter, NullListener, Progress, Retries, span
from idc_indexer.publish.records import files_meter, in_parallel
from tests.cli.test_environment import Releases, posix
from tests.conftest import FOREGROUND, Run, Start, TinyExport
from tests.emulators.gcs import Gcs
from tests.emulators.places import BucketPlace


class Hearing(NullListener):
    """Notes everything."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[Progress] = []

    def message(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)


# --- What is shown ------------------------------------------------------------------------------------------------

STEP = Progress("uploading 25.0.1", "files", 12, 71, 300_000_000, 512_000_000, 30.0, "idc_index.parquet")


def frame(progress: Progress, width: int) -> str:
    """The line of a terminal of that width."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    live = LiveProgress(console)
    live.progress(progress)
    console.print(live._line())
    return out.getvalue().rstrip("\n")


def test_a_bar_fits_the_terminal() -> None:
    assert frame(STEP, 100).count("\n") == 0
    assert "uploading 25.0.1: 12 of 71 files, 300.0 MB of 512.0 MB, idc_index.parquet, 10.0 MB/s, 21 s left" in frame(
        STEP, 160
    )
    # by bytes, not by files: 59 of 71 files would take two minutes more
    assert "uploading 25.0.1: 12 of 71 files, 300.0 MB, 21 s left" not in frame(STEP, 60)
    assert re.search(r"uploading 25.0.1: 12 of 71 files, .*21 s left", frame(STEP, 60))


@given(
    st.builds(
        Progress,
        st.text(min_size=1, max_size=80),
        st.sampled_from(["files", "shards"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(0, 10**15),
        st.integers(0, 10**15),
        st.floats(0, 10**6),
        st.text(max_size=80),
    ),
    st.sampled_from([20, 60, 80]),
)
def test_no_line_is_wider_than_the_terminal(progress: Progress, width: int) -> None:
    listener = PlainProgress()
    listener.progress(progress)
    assert len(listener.text(width)) <= width
    assert "\n" not in listener.text(width)


@given(st.lists(st.text(), min_size=1, max_size=6), st.integers(2, 100))
def test_parts_are_left_out_until_they_fit(parts: list[str], width: int) -> None:
    assert len(fitted(parts, width)) <= width


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3900, "1 h 5 min")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_log_gets_a_line_when_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress(first_wait=0.02) as listener:
        meter = Meter(listener, "comparing", "tables", 18)
        meter.add("idc_index", done=0)
        for _ in range(500):
            time.sleep(0.01)
            if lines := capsys.readouterr().err.splitlines():
                break
    assert re.fullmatch(r"comparing: 0 of 18 tables, idc_index, \d+ s", lines[0])


def test_a_command_that_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress() as listener:
        Meter(listener, "comparing", "tables", 1).add("idc_index")
    assert capsys.readouterr().err == ""


def test_many_files_with_one_cause_are_one_line() -> None:
    lines = aggregated([(f"{n}.sql", f"has {n} bytes, in the manifest 9") for n in range(5)] + [("x", "is missing")])
    assert lines == ["5 files, such as 0.sql: has 0 bytes, in the manifest 9", "x: is missing"]


# --- What is heard ------------------------------------------------------------------------------------------------


def test_files_and_bytes_are_counted_from_any_thread() -> None:
    listener = Hearing()
    meter = files_meter(listener, "uploading", [5, 7])
    in_parallel([5, 7], lambda size: meter.add("a", bytes=size), 2)
    assert (listener.steps[0].done, listener.steps[0].bytes) == (0, 0)
    assert (listener.steps[-1].done, listener.steps[-1].all, listener.steps[-1].bytes) == (2, 2, 12)
    assert listener.steps[-1].ended


@pytest.mark.parametrize("command", ["publish", "promote", "adopt", "diff", "verify", "report", "check"])
def test_no_command_is_mute(
    command: str, run: Run, small_releases: Releases, gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a log whose patience is a hundredth of a second, each says what it does."""
    heard: list[str] = []
    kind = PlainProgress.progress

    def progress(self: PlainProgress, step: Progress) -> None:
        heard.append(step.what)
        kind(self, step)

    monkeypatch.setattr(PlainProgress, "progress", progress)
    release = shutil.copytree(small_releases["25.0.1"], tmp_path / "release")
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    run("bucket", "setup", "--to", "gs://artifacts", "--apply")
    run("publish", small_releases["25.0.0"], "--to", place.uri, "--promote")
    if command != "publish":
        run("publish", release, "--to", place.uri)
    if command == "adopt":
        place.remove("25.0.1/publication.json")
    url = f"{gcs_service.url}/artifacts/some/where"
    words: dict[str, tuple[object, ...]] = {
        "publish": (release, "--to", place.uri),
        "promote": ("25.0.1", "--to", place.uri),
        "adopt": ("25.0.1", "--to", place.uri),
        "diff": (f"{url}/25.0.0/release_artifacts/", release),
        "verify": (release, "--against", f"{url}/25.0.0/release_artifacts/"),
        "report": (release, "--against", f"{url}/25.0.0/release_artifacts/"),
        "check": (f"{url}/current/release_artifacts/", "--deep"),
    }
    said = {
        "publish": {"verifying release", "uploading 25.0.1"},
        "promote": {"copying new files", "replacing current"},
        "adopt": {"reading 25.0.1"},
        "diff": {"comparing", "downloading version_metadata_index.parquet"},
        "verify": {"verifying release", "comparing", "downloading version_metadata_index.parquet"},
        "report": {"verifying release", "comparing", "describing"},
        "check": {"checking"},
    }
    heard.clear()
    result = run(command, *words[command])
    assert result.exit_code in (0, 3), result.output
    assert said[command] <= set(heard)


# --- Retries ------------------------------------------------------------------------------------------------------


def test_retries_of_one_host_are_told_once_in_a_while() -> None:
    now = [0.0]
    listener = Hearing()
    retries = Retries(listener, lambda: now[0])
    for second in (0, 1, 2, 6):
        now[0] = second
        retries.tell("a.org", "HTTP 503", f"attempt {second} of 9")
    retries.tell("b.org", "no connection", "attempt 1 of 9")
    assert listener.lines == [
        "a.org: HTTP 503 (attempt 0 of 9); trying again",
        "a.org: HTTP 503 (attempt 6 of 9); trying again; 2 more since the last line",
        "b.org: no connection (attempt 1 of 9); trying again",
    ]


def test_a_busy_server_is_named_while_it_is_waited_for(
    run: Run, small_releases: Releases, gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    run("bucket", "setup", "--to", "gs://artifacts", "--apply")
    run("publish", small_releases["25.0.0"], "--to", place.uri)
    url = f"{gcs_service.url}/artifacts/some/where/25.0.0/release_artifacts/collections_index.parquet"
    refusals = iter([503, 503])
    monkeypatch.setattr(gcs_service, "answer", lambda _, status, *rest: (next(refusals, status), *rest))
    listener, host = Hearing(), gcs_service.url.removeprefix("http://")
    assert request(url, retries=Retries(listener), sleep=lambda _: None).status == 200
    assert listener.lines == [f"{host}: HTTP 503 Service Unavailable (attempt 1 of {ATTEMPTS}); trying again"]
    download(url, tmp_path / "x.parquet", retries=Retries(listener))
    assert listener.steps[-1].bytes == listener.steps[-1].all_bytes == (tmp_path / "x.parquet").stat().st_size
    # Google's client tells too
    place.gcs.fault = lambda number: "busy" if number < 2 else ""
    place.gcs.requests.clear()
    result = run("status", "--to", place.uri)
    assert "127.0.0.1: HTTP 503 (attempt 1, for at most 120 s); trying again\n" in result.stderr


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


@posix
def test_ctrl_c_says_what_state_a_build_is_in(tiny: TinyExport, start: Start) -> None:
    process = start(tiny, "collections_index", "version_metadata_index", first=f"{FOREGROUND}\n{INTERRUPTED_BUILD}")
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    *_, where, state = err.splitlines()
    assert re.fullmatch(r"interrupted: building version_metadata_index \(2 of 2\), \d+ s", where)
    assert state.startswith("Interrupted. Finished tables stay in <DIR>.incomplete")
    assert "the same command continues" in state


INTERRUPTED_BUILD = """
import os, signal
from idc_indexer.release import build
write = build.write_parquet
def interrupted(*arguments, context, **options):
    if context == "version_metadata_index":
        os.kill(os.getpid(), signal.SIGINT)
    return write(*arguments, context=context, **options)
build.write_parquet = interrupted
"""
INTERRUPTING = """
import os, signal
from idc_indexer.publish.stores.local import LocalStore
put = LocalStore.put
def interrupted(self, name, *rest):
    if name.endswith("_schema.json"):
        os.kill(os.getpid(), signal.SIGINT)
    return put(self, name, *rest)
LocalStore.put = interrupted
"""


@posix
def test_ctrl_c_says_what_state_a_store_is_in(small_releases: Releases, tmp_path: Path, run: Run) -> None:
    program = f"{FOREGROUND}\n{INTERRUPTING}\nfrom idc_indexer.cli import main\nmain(prog_name='idc-indexer')"
    words = ["publish", str(small_releases["25.0.0"]), "--to", str(tmp_path / "published")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=os.environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert re.search(r"interrupted: uploading 25.0.0: \d+ of 14 files", done.stderr)
    assert done.stderr.splitlines()[-1].startswith("Interrupted. The version may be incomplete: the same command")
    assert run(*words).exit_code == 0
    assert run("status", "--to", tmp_path / "published").stdout.startswith("25.0.0: valid")

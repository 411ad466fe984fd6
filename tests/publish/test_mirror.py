"""Mirrors on the Hugging Face Hub: what is committed, what is refused, and publishers that are cut off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.publish import mirror as mirror_room
from idc_indexer.publish.mirror import LocalContent, MirrorState, mirror, mirror_status, plan_mirror
from idc_indexer.publish.stores.hub import HubDataset, HubFile, digests
from idc_indexer.release.descriptions import describe
from idc_indexer.release.descriptions.description import Description
from idc_indexer.release.manifest import MANIFEST, FileEntry, IndexEntry, Release, parquet_name, sidecar
from idc_indexer.release.verify import open_valid
from tests.conftest import Run, contents, refused
from tests.emulators.hub import DATASET, EXPIRED, READER, TOKEN, Blob, Hub
from tests.emulators.places import KilledError
from tests.publish.test_publish import Releases, done
from tests.publish.test_publish_crashes import attempt

TO = f"hf://datasets/{DATASET}"
CARD = "README.md"
FAULTS = ["throttled", "busy", "page", "lost", "reset"]


_DESCRIBED: dict[Path, Description] = {}


def described(release: Release, published: str) -> Description:
    if release.path not in _DESCRIBED:
        _DESCRIBED[release.path] = describe(release, published)
    return _DESCRIBED[release.path]


@pytest.fixture
def hub(hub_service: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """One empty dataset, and the client that finds it. No wait is real."""
    hub_service.renew()
    for name, value in hub_service.client(tmp_path).items():
        monkeypatch.setenv(name, value)
        if name.startswith("HF_HUB_DISABLE"):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", True)
    # The client has read its environment already.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_service.url)
    template = f"{hub_service.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in ("constants", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.utils._auth._OIDC_TOKEN_CACHE", None)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(mirror_room, "FIRST_WAIT", 0.001)
    # Releases are verified and described once, not at each attempt.
    monkeypatch.setattr(mirror_room, "open_valid", Release.open)
    monkeypatch.setattr(mirror_room, "describe", described)
    yield hub_service
    close_session()


def publish(release: Path) -> None:
    mirror(release, HubDataset(TO))


def is_mirror(hub: Hub, release: Path, *tags: str) -> None:
    """`main`, and the tags, have the files of a release and a card that names its manifest."""
    digest = Release.open(release).manifest_sha256
    for revision in ("main", *tags):
        found = hub.dataset.contents(revision)
        assert digest in found.pop(CARD).decode()
        assert found == contents(release)
    assert ".gitattributes" in hub.dataset.commits[hub.dataset.main]


# --- What is published ------------------------------------------------------------------------------------------------


def test_a_release_is_one_commit_and_a_tag(run: Run, hub: Hub, small_releases: Releases) -> None:
    release = small_releases["25.0.0"]
    planned = done(run("publish", release, "--to", TO, "--dry-run", "--json"))
    assert not [request for request in hub.requests if not request.startswith("GET")]
    result = run("publish", release, "--to", TO, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    made = json.loads(result.stdout)
    assert made["publish"] == planned["publish"]
    assert {step["name"] for step in made["publish"]} == {*contents(release), CARD, "refs/tags/25.0.0"}
    assert {step["action"] for step in made["publish"]} == {"create"}
    assert hub.dataset.messages == ["initial commit", "Release 25.0.0"]
    is_mirror(hub, release, "25.0.0")
    found = run("status", "--to", TO)
    assert (found.exit_code, found.stdout) == (0, "25.0.0: valid\ncurrent: 25.0.0, OK\n")
    for deep in ((), ("--deep",)):
        checked = run("check", TO, *deep, "--rebuilt", release)
        assert (checked.exit_code, checked.stdout) == (0, f"{TO}: OK\n")


def test_a_release_with_problems_is_not_published(
    run: Run, hub: Hub, small_releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_room, "open_valid", open_valid)
    damaged = shutil.copytree(small_releases["25.0.0"], tmp_path / "damaged")
    (damaged / "collections_index.sql").write_text("SELECT 1")
    refused(run("publish", damaged, "--to", TO), 1, "problems, the first in collections_index.sql")
    assert hub.requests == []


def test_repeated_commands_write_nothing(run: Run, hub: Hub, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", TO)
    hub.without_faults()
    for more in ((), ("--card-only",)):
        report = done(run("publish", small_releases["25.0.0"], "--to", f"{TO}/", *more, "--json"))
        assert {step["action"] for step in report["publish"]} == {"keep"}
    assert not [request for request in hub.requests if not request.startswith("GET")]
    assert len(hub.dataset.commits) == 2


def with_another_index(release: Path, folder: Path) -> Path:
    """A release 25.0.9 in which one index and what describes it differ; it is not valid, for all name 25.0.0."""
    shutil.copytree(release, folder)
    path = folder / parquet_name("collections_index")
    path.write_bytes(path.read_bytes() + b"changed")
    digest = LocalContent.of(path)
    (sha256,) = (one.removeprefix("sha256:") for one in digest.digests if one.startswith("sha256:"))
    (folder / f"{path.name}.sha256").write_bytes(sidecar(sha256, path.name))
    old = Release.open(folder)

    def changed(entry: IndexEntry) -> IndexEntry:
        files = [
            replace(one, bytes=digest.size, sha256=sha256) if one.name == path.name else one for one in entry.files
        ]
        return replace(entry, files=tuple(map(listed, files)))

    def listed(file: FileEntry) -> FileEntry:
        data = (folder / file.name).read_bytes()
        (now,) = (one.removeprefix("sha256:") for one in digests(data) if one.startswith("sha256:"))
        return replace(file, bytes=len(data), sha256=now)

    new = replace(old, release_version="25.0.9", indices=tuple(map(changed, old.indices)))
    (folder / MANIFEST).write_bytes(new.manifest())
    return folder


def test_a_release_with_one_other_index_uploads_that_file(hub: Hub, small_releases: Releases, tmp_path: Path) -> None:
    publish(small_releases["25.0.0"])
    release = with_another_index(small_releases["25.0.0"], tmp_path / "changed")
    hub.without_faults()
    publish(release)
    changed = hub.dataset.commits[hub.dataset.main]["collections_index.parquet"]
    assert hub.uploads == [changed.sha256]
    assert sorted(hub.committed[-1]) == sorted(
        [CARD, "collections_index.parquet", "collections_index.parquet.sha256", MANIFEST]
    )
    is_mirror(hub, release, "25.0.9")


def test_the_next_release_replaces_what_differs_and_removes_the_rest(
    run: Run, hub: Hub, small_releases: Releases
) -> None:
    hub.page = 7
    for version in ("25.0.0", "25.0.1"):
        report = done(run("publish", small_releases[version], "--to", TO, "--json"))
    actions = {step["name"]: step["action"] for step in report["publish"]}
    assert actions["version_metadata_index.parquet"] == actions[MANIFEST] == actions[CARD] == "replace"
    assert actions["version_metadata_index.sql"] == "keep"
    assert actions["analysis_results_index.parquet"] == "create"
    assert actions["collections_index.parquet"] == "remove"
    assert sorted(hub.committed[-1]) == sorted(n for n, action in actions.items() if action != "keep" and "/" not in n)
    is_mirror(hub, small_releases["25.0.1"], "25.0.1")
    card = hub.dataset.contents()[CARD].decode()
    assert "## Changes since 25.0.0\n" in card
    rows = {entry.name: entry.rows for entry in Release.open(small_releases["25.0.1"]).entries}
    assert f"| analysis_results_index | - | {rows['analysis_results_index']} |" in card
    assert "| version_metadata_index | 25" not in card.partition("## Tables")[0]
    assert "Changes since" not in hub.dataset.contents("25.0.0")[CARD].decode()
    assert hub.dataset.contents("25.0.0")[MANIFEST] == (small_releases["25.0.0"] / MANIFEST).read_bytes()
    found = run("status", "--to", TO)
    assert (found.exit_code, found.stdout) == (0, "25.0.0: valid\n25.0.1: valid\ncurrent: 25.0.1, OK\n")


def test_a_trusted_publisher_needs_no_token(
    run: Run, hub: Hub, small_releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_OIDC_RESOURCE", f"datasets/{DATASET}")
    refused(run("publish", small_releases["25.0.0"], "--to", TO), 1, TO, "trusted publishing failed", "id-token: write")
    for name, value in hub.identity.items():
        monkeypatch.setenv(name, value)
    refused(run("publish", small_releases["25.0.0"], "--to", TO), 1, "HTTP 403: No trusted publisher matches")
    hub.trusted.add(f"datasets/{DATASET}")
    assert run("publish", small_releases["25.0.0"], "--to", TO).exit_code == 0
    is_mirror(hub, small_releases["25.0.0"], "25.0.0")


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_publisher_is_killed_at_every_request(
    hub: Hub, small_releases: Releases, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    def kill(_: float) -> None:
        raise KilledError("killed")

    # It does not live to send a request again.
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=kill))
    publish(small_releases["25.0.0"])
    before, new = hub.dataset.contents(), small_releases["25.0.1"]
    state, cuts, finished = hub.save(), 0, False
    publish(new)
    after = hub.dataset.contents()
    while not finished:
        hub.restore(state)
        hub.cut(cuts, after=late)
        finished = not attempt(lambda: mirror(new, HubDataset(TO), sleep=kill))
        assert hub.dataset.contents() in (before, after)
        assert hub.dataset.tags.keys() <= {"25.0.0", "25.0.1"}
        hub.without_faults()
        uploaded = set(hub.dataset.objects)
        publish(new)
        assert not uploaded & {*hub.uploads}
        assert hub.dataset.contents() == hub.dataset.contents("25.0.1") == after
        assert hub.dataset.contents("25.0.0") == before
        assert hub.dataset.messages == ["initial commit", "Release 25.0.0", "Release 25.0.1"]
        cuts += not finished
    print(f"{cuts} publishers killed")
    assert cuts > 15


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_once(hub: Hub, small_releases: Releases, fault: str, every: int) -> None:
    """Each, or every fourth, is sent again or ends in one message; the end is the same."""
    state, number, said, reached = hub.save(), FAULTS.index(fault), 0, True
    while reached:
        hub.restore(state)
        hub.fault = lambda now: fault if now == number else ""  # noqa: B023 -- used in this turn only
        message = attempt(lambda: publish(small_releases["25.0.0"]))
        said += bool(message)
        assert message.startswith(TO if message else "")
        reached = len(hub.requests) > number
        hub.without_faults()
        publish(small_releases["25.0.0"])
        is_mirror(hub, small_releases["25.0.0"], "25.0.0")
        assert len(hub.dataset.commits) == 2
        number += every
    print(f"{fault}: {said} messages of {number // every} faults")
    assert number > 12
    # The Hub asks for a longer wait than the command is patient.
    assert bool(said) == (fault in ("throttled", "page"))


def test_a_short_wait_is_waited(hub: Hub, small_releases: Releases) -> None:
    hub.retry_after = 7
    hub.fault = lambda number: "throttled" if number == 0 else ""
    waits: list[float] = []
    mirror(small_releases["25.0.0"], HubDataset(TO), sleep=waits.append)
    assert waits == [7]
    is_mirror(hub, small_releases["25.0.0"], "25.0.0")


def test_a_file_that_changes_during_the_upload_is_named(
    run: Run, hub: Hub, small_releases: Releases, tmp_path: Path
) -> None:
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")

    def fault(number: int) -> str:
        if hub.requests[number].endswith("/validate-yaml"):
            (release / "collections_index.sql").write_text("SELECT 1")
        return ""

    hub.fault = fault
    refused(run("publish", release, "--to", TO), 1, TO, "does not have these files", "collections_index.sql", "Verify")
    assert hub.dataset.tags == {}
    hub.without_faults()
    publish(small_releases["25.0.0"])
    is_mirror(hub, small_releases["25.0.0"], "25.0.0")


def test_two_publishers_make_no_mix(hub: Hub, run: Run, small_releases: Releases) -> None:
    def fault(number: int) -> str:
        if hub.requests[number].endswith("/commit/main"):
            files = dict(hub.dataset.commits[hub.dataset.main])
            hub.dataset.add({**files, "notes.md": Blob(b"mine", large=False)}, "of another program")
            hub.fault = lambda _: ""
        return ""

    hub.fault = fault
    result = run("publish", small_releases["25.0.0"], "--to", TO)
    refused(result, 1, TO, "HTTP 412", "another program changed the dataset")
    assert result.stderr.count("\n") == 2
    assert hub.dataset.contents() == {"notes.md": b"mine"}
    assert hub.dataset.tags == {}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (EXPIRED, ("HTTP 401", "is expired", "`hf auth login`")),
        ("", ("HTTP 401", "`hf auth login`")),
        (READER, ("HTTP 403", "the right to write")),
    ],
)
def test_who_may_not_write(
    run: Run, hub: Hub, small_releases: Releases, monkeypatch: pytest.MonkeyPatch, token: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    result = run("publish", small_releases["25.0.0"], "--to", TO)
    refused(result, 1, TO, *words)
    assert result.stderr.count("\n") == 2
    assert not token or token not in result.stderr
    assert len(hub.dataset.commits) == 1


@pytest.mark.parametrize("command", ["publish", "status", "check"])
def test_a_missing_dataset_and_a_busy_hub(run: Run, hub: Hub, small_releases: Releases, command: str) -> None:
    def words(dataset: str) -> list[object]:
        if command == "publish":
            return ["publish", small_releases["25.0.0"], "--to", dataset]
        return [command, *(["--to"] if command == "status" else []), dataset]

    result = run(*words("hf://datasets/idc/nothing"))
    refused(result, 1, "hf://datasets/idc/nothing", "HTTP 401" if command == "check" else "there is no such dataset")
    assert result.stderr.count("\n") == 2
    hub.fault = lambda number: "throttled" if number >= 2 else ""
    result = run(*words(TO))
    refused(result, 1, TO, "HTTP 429", "asks to wait 300 seconds")
    assert result.stderr.count("\n") == 2


# --- Doctor -----------------------------------------------------------------------------------------------------------


def doctor(run: Run, to: str = TO) -> dict[str, str]:
    """What `doctor` finds of a mirror, by check; it reads, and nothing else."""
    result = run("doctor", "--to", to, "--skip", "source", "--skip", "pypi")
    assert result.stderr == ""
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert result.exit_code == (0 if all(line.startswith("OK: ") for line in lines.values()) else 3)
    assert lines.keys() == {"store", "rights"}
    return lines


def test_doctor_finds_what_a_mirror_lacks(
    run: Run, hub: Hub, small_releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(small_releases["25.0.0"])
    hub.without_faults()
    assert doctor(run) == {"store": f"OK: {TO} can be listed; it has a version", "rights": f"OK: {TO} may be written"}
    assert {request.partition(" ")[0] for request in hub.requests} == {"GET"}
    for token, store, rights in (
        (
            READER,
            "OK",
            "HTTP 403: You don't have the rights to write to this dataset. The token, or the trusted publisher",
        ),
        (EXPIRED, "not OK", "HTTP 401"),
        ("", "OK", "HTTP 401"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        found = doctor(run)
        assert found["store"].startswith(f"{store}: ")
        assert found["rights"].startswith("not OK: ")
        assert rights in found["rights"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert all("there is no such dataset" in line for line in doctor(run, "hf://datasets/idc/nothing").values())
    assert all("Give hf://datasets/OWNER/NAME" in line for line in doctor(run, "hf://models/a/b").values())
    hub.fault = lambda _: "throttled"
    assert all("asks to wait 300 seconds" in line for line in doctor(run).values())


def test_doctor_knows_trusted_publishers_and_a_missing_client(
    run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_OIDC_RESOURCE", f"datasets/{DATASET}")
    for name, value in hub.identity.items():
        monkeypatch.setenv(name, value)
    assert "HTTP 403: No trusted publisher matches" in doctor(run)["rights"]
    hub.trusted.add(f"datasets/{DATASET}")
    assert doctor(run)["rights"] == f"OK: {TO} may be written"
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "idc_indexer.publish.stores.hub")
    assert all("needs the client of the Hugging Face Hub" in line for line in doctor(run).values())


# --- What is refused --------------------------------------------------------------------------------------------------


def test_what_is_refused(run: Run, hub: Hub, small_releases: Releases) -> None:
    new, old = small_releases["25.0.1"], small_releases["25.0.0"]
    for address in ("hf://models/a/b", "hf://datasets/a", "hf://datasets/a/b/c", "hf://datasets/a/..", "hf://"):
        refused(run("publish", new, "--to", address), 2, address, "hf://datasets/OWNER/NAME")
        refused(run("status", "--to", address), 2, address)
        refused(run("check", address), 2, address)
    refused(run("publish", new, "--to", TO, "--promote"), 2, "--promote")
    refused(run("promote", "25.0.1", "--to", TO), 2, TO, "is not a store")
    refused(run("publish", new, "--to", "folder", "--card-only"), 2, "--card-only", "hf://datasets/OWNER/NAME")
    refused(run("publish", new, "--to", TO, "--card-only"), 1, TO, "no release")
    assert hub.requests
    assert len(hub.dataset.commits) == 1
    publish(new)
    refused(run("publish", small_releases["other"], "--to", TO), 1, TO, "another release of version 25.0.1")
    refused(run("publish", old, "--to", TO, "--card-only"), 1, TO, "has 25.0.1, not this release 25.0.0")
    refused(run("publish", old, "--to", TO), 2, TO, "25.0.0 is older than 25.0.1", "--rollback")
    assert len(hub.dataset.commits) == 2
    assert run("publish", old, "--to", TO, "--rollback").exit_code == 0
    is_mirror(hub, old, "25.0.0")
    assert hub.dataset.contents("25.0.1")[MANIFEST] == (new / MANIFEST).read_bytes()
    refused(run("publish", small_releases["other"], "--to", TO), 1, TO, "another release of version 25.0.1")


def test_the_client_is_an_extra(small_releases: Releases) -> None:
    hidden = "import sys; sys.modules.update(dict.fromkeys(['huggingface_hub', 'httpx2']))\n"
    program = f"{hidden}from idc_indexer.cli import main\nmain(prog_name='idc-indexer')"
    words = ["publish", str(small_releases["25.0.0"]), "--to", TO]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: hf:// needs the client of the Hugging Face Hub: ")
    assert done.stderr.endswith(": pip install 'huggingface_hub>=2' 'httpx2>=2'.\n")


@pytest.mark.parametrize("manifest", [None, b"[]", b'{"manifest": "of something else"}'])
def test_a_dataset_of_something_else_is_left_alone(
    run: Run, hub: Hub, small_releases: Releases, manifest: bytes | None
) -> None:
    files = {"train/data.csv": b"a\n1\n", **({MANIFEST: manifest} if manifest else {})}
    hub.dataset.add({name: Blob(data, large=False) for name, data in files.items()}, "of another program")
    refused(run("publish", small_releases["25.0.0"], "--to", TO), 1, TO, "is not a mirror of a release")
    assert hub.dataset.contents() == files
    assert run("status", "--to", TO).stdout == "current: no version was promoted\n"
    assert run("check", TO).exit_code == 3


# --- What status and check see ----------------------------------------------------------------------------------------


def test_a_stale_card_is_renewed_alone(run: Run, hub: Hub, small_releases: Releases) -> None:
    publish(small_releases["25.0.0"])
    files = dict(hub.dataset.commits[hub.dataset.main])
    for damaged, problem in (({}, "is missing"), ({CARD: Blob(b"# Old", large=False)}, "is stale")):
        del files[CARD]
        files |= damaged
        hub.dataset.add(files, "of another program")
        for command in (("status", "--to", TO), ("check", TO)):
            found = run(*command)
            assert found.exit_code == 3
            assert f"{CARD}" in found.stdout
            assert problem in found.stdout
        files = dict(hub.dataset.commits[hub.dataset.main])
        made = done(run("publish", small_releases["25.0.0"], "--to", TO, "--card-only", "--json"))
        assert [step["name"] for step in made["publish"]] == hub.committed[-1] == [CARD]
        assert hub.dataset.messages[-1] == "Card of release 25.0.0"
        is_mirror(hub, small_releases["25.0.0"], "25.0.0")
        files = dict(hub.dataset.commits[hub.dataset.main])
        assert run("status", "--to", TO).exit_code == 0


PARQUET, SQL = "collections_index.parquet", "collections_index.sql"


@pytest.mark.parametrize(
    ("name", "content", "problem", "checked"),
    [
        (PARQUET, None, "is missing", "is missing"),
        (PARQUET, b"", "has 0 bytes", "has 0 bytes"),
        (PARQUET, b"flip", "has sha256:", "has sha256:"),
        (SQL, b"flip", "has other content than the tag 25.0.0", "is corrupted"),
        ("notes.md", b"mine", "is not of 25.0.0", "is not of 25.0.0"),
    ],
)
def test_files_that_differ_are_named(
    run: Run, hub: Hub, small_releases: Releases, name: str, content: bytes | None, problem: str, checked: str
) -> None:
    publish(small_releases["25.0.0"])
    files = dict(hub.dataset.commits[hub.dataset.main])
    if content == b"flip":
        content = bytes([files[name].content[0] ^ 1]) + files[name].content[1:]
    if content is None:
        del files[name]
    else:
        files[name] = Blob(content, large=name == PARQUET)
        hub.dataset.objects[files[name].sha256] = content
    hub.dataset.add(files, "of another program")
    found = run("status", "--to", TO)
    assert found.exit_code == 3
    assert found.stdout.startswith(f"25.0.0: valid\ncurrent: 25.0.0, damaged\n    {name}: {problem}")
    assert len(found.stdout.splitlines()) == 3
    (line,) = run("check", TO).stdout.splitlines()
    assert line.startswith(f"{name}: {checked}")
    publish(small_releases["25.0.0"])
    assert mirror_status(HubDataset(TO)).ok


def test_a_tag_that_is_missing_or_of_something_else(run: Run, hub: Hub, small_releases: Releases) -> None:
    publish(small_releases["25.0.0"])
    first = next(iter(hub.dataset.commits))
    hub.dataset.tags = {"nightly": first, "24.0.0": first, "25.0.1": hub.dataset.tags["25.0.0"]}
    found = run("status", "--to", TO)
    assert found.exit_code == 3
    assert found.stdout.splitlines() == [
        "24.0.0: unrecorded",
        "25.0.1: damaged",
        f"    {MANIFEST}: is of 25.0.0",
        "current: 25.0.0, damaged",
        "    refs/tags/25.0.0: is missing: publish the release again",
    ]
    publish(small_releases["25.0.0"])
    is_mirror(hub, small_releases["25.0.0"], "25.0.0")
    assert "Changes since" not in hub.dataset.contents()[CARD].decode()


def test_check_notices_what_the_hub_sends_wrong(run: Run, hub: Hub, small_releases: Releases) -> None:
    publish(small_releases["25.0.0"])
    sha256 = hub.dataset.commits[hub.dataset.main][PARQUET].sha256
    hub.dataset.objects[sha256] = hub.dataset.objects[sha256][::-1]
    refused(run("check", TO), 1, TO, f"could not read {PARQUET}", "damaged")


# --- The plan ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([MANIFEST, CARD, "a.parquet", "b.parquet", "c.sql", "old/d.csv", ".gitattributes"])
CONTENTS = st.binary(max_size=2)


@pytest.mark.unit
@given(local=st.dictionaries(NAMES, CONTENTS), found=st.dictionaries(NAMES, CONTENTS), large=st.booleans())
def test_a_plan_makes_the_dataset_equal(local: dict[str, bytes], found: dict[str, bytes], large: bool) -> None:
    """And touches only what differs, whatever is there."""
    local = {name: data for name, data in local.items() if not name.startswith(".")} | {MANIFEST: b"m", CARD: b"c"}
    start = "sha256:" if large else "git:"
    files = {
        name: HubFile(name, len(data), next(one for one in digests(data) if one.startswith(start)))
        for name, data in found.items()
    }
    release = Release(Path(), 24, "24.0.0", {}, ())
    wanted = {name: LocalContent.of(data) for name, data in local.items()}
    plan = plan_mirror("25.0.0", wanted, MirrorState("0" * 40, files, release, None))
    after = {name: data for name, data in found.items() if name not in plan.removed}
    after |= {name: local[name] for name in plan.written}
    assert {name: data for name, data in after.items() if not name.startswith(".")} == local
    assert after.get(".gitattributes") == found.get(".gitattributes")
    assert not [name for name in plan.written if found.get(name) == local[name]]

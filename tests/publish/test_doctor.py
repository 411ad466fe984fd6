"""`doctor`: what is missing is found before a release starts, in one line each, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run, contents
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace

TO = f"gs://{BUCKET}/{PREFIX}"
RELEASE = ("--source", "sample", "--release-version", "25.2.0")
Doctor = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def doctor(gcs_service: Gcs, run: Run, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Exit code and lines by check; of a bucket that was set up, and a page of PyPI beside it."""
    BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    gcs_service.put("pypi/idc-index-data/json", b'{"info": {"version": "25.0.5"}}')

    def doctor(*arguments: object) -> tuple[int, dict[str, str]]:
        result = run("doctor", "--pypi-url", f"{gcs_service.url}/{BUCKET}", *arguments)
        assert result.stderr == ""
        return result.exit_code, dict(line.split(": ", 1) for line in result.stdout.splitlines())

    return doctor


@pytest.fixture
def where(gcs_service: Gcs) -> tuple[str, ...]:
    """The bucket and its address."""
    return ("--to", TO, "--published-at", f"{gcs_service.url}/{BUCKET}/{PREFIX}")


def test_all_that_a_release_needs_is_there(
    doctor: Doctor, where: tuple[str, ...], gcs_service: Gcs, run: Run, small_releases: dict[str, Path]
) -> None:
    address = where[-1]
    assert doctor(*RELEASE, *where, "--first") == (
        0,
        {
            "source": "OK: sample has IDC release 25",
            "store": f"OK: {TO} can be listed; no version was promoted",
            "rights": f"OK: {TO} may be written",
            "address": f"OK: {address} responds",
            "pypi": "OK: idc-index-data 25.0.5 is there; whether it trusts this repository, only an upload shows",
        },
    )
    code, found = doctor(*RELEASE, *where)
    assert (code, found["address"][:6]) == (3, "not OK")
    assert run("publish", small_releases["25.0.0"], "--to", TO, "--promote").exit_code == 0
    before = gcs_service.objects()
    gcs_service.requests.clear()
    code, found = doctor(*RELEASE, *where)
    assert (code, found["address"]) == (0, f"OK: {address} has 2 tables, 25.0.0")
    assert found["store"] == f"OK: {TO} can be listed; a version is current"
    assert {request.partition(" ")[0] for request in gcs_service.requests} == {"GET"}
    assert gcs_service.objects() == before


def test_what_is_not_given_is_named_with_the_variable_of_the_workflows(doctor: Doctor) -> None:
    code, found = doctor("--source", "sample")
    assert code == 3
    assert found["store"] == "not OK: --to is not given. Give it; on GitHub, set the variable PUBLISH_TO"
    assert found["address"].endswith("set the variable PUBLISHED_URL")
    assert found["source"] == "OK: sample has IDC release 25"


def test_rights_that_an_account_lacks(doctor: Doctor, where: tuple[str, ...], gcs_service: Gcs) -> None:
    gcs_service.permissions = {"storage.objects.get", "storage.objects.list"}
    code, found = doctor(*RELEASE, *where, "--first")
    lacking = "storage.objects.create, storage.objects.delete"
    assert code == 3
    assert found["rights"].startswith(f"not OK: {TO}: not allowed: {lacking}. Give the account the role")
    assert {line[:2] for name, line in found.items() if name != "rights"} == {"OK"}
    gcs_service.permissions = set()
    assert "storage.objects.list, storage.objects.get" in doctor(*RELEASE, *where, "--first")[1]["rights"]
    assert doctor(*RELEASE, *where, "--first", "--skip", "rights")[0] == 0


def test_other_things_that_are_wrong(
    doctor: Doctor, where: tuple[str, ...], gcs_service: Gcs, run: Run, environment: dict[str, str]
) -> None:
    _, found = doctor("--source", "sample", "--release-version", "26.0.0", *where)
    assert found["source"].startswith("not OK: there is no IDC release 26; the newest is 25")
    gcs_service.put("pypi/idc-index-data/json", b"<html>Sign in</html>")
    assert "is not a page of PyPI" in doctor(*RELEASE, *where)[1]["pypi"]
    gcs_service.delete("pypi/idc-index-data/json")
    assert "is missing: HTTP 404. Add a pending trusted publisher" in doctor(*RELEASE, *where)[1]["pypi"]
    gcs_service.storage.set_bucket_iam_policy(BUCKET, {"bindings": []})
    assert "is not public: HTTP 403. Run `idc-indexer bucket" in doctor(*RELEASE, *where, "--first")[1]["address"]
    _, found = doctor(*RELEASE, *where, "--to", "gs://other-bucket")
    assert found["store"].startswith("not OK: gs://other-bucket: there is no such bucket")
    assert found["rights"].startswith("not OK: gs://other-bucket")
    # several values in one variable, as a workflow gives them
    environment["IDC_INDEXER_SKIP"] = "source store rights address"
    document = json.loads(run("doctor", "--pypi-url", f"{gcs_service.url}/{BUCKET}", "--json").stdout)
    (check,) = document["checks"]
    assert (document["ok"], check["name"], check["ok"]) == (False, "pypi", False)
    assert check["advice"]


def test_a_machine_without_credentials(
    doctor: Doctor, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    code, found = doctor(*RELEASE, *where, "--first")
    assert code == 3
    for check in ("store", "rights"):
        assert f"GOOGLE_APPLICATION_CREDENTIALS={tmp_path / 'none.json'}: no such file" in found[check]


def test_a_folder(doctor: Doctor, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    rest = ("--skip", "address", *RELEASE)
    assert doctor("--to", folder, *rest)[0] == 0
    assert contents(tmp_path) == {}
    folder.write_text("")
    code, found = doctor("--to", folder, *rest)
    assert (code, found["rights"].partition(". ")[0]) == (3, f"not OK: {folder}: not allowed: writing to {folder}")

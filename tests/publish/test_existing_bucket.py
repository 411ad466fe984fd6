"""A bucket that other tools filled is told apart, adopted, replaced and brought back, as its page in the docs says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.publish.adopt import adopt
from idc_indexer.publish.public_check import check
from tests.conftest import Run, contents, refused
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace, FolderPlace, Place
from tests.publish.test_publish import below
from tests.support.root_files import ROOT, tells_the_truth

Releases = dict[str, Path]
PAGE = Path(__file__).parents[2] / "docs" / "existing-bucket.md"
URI, URL = "gs://idc-index-data-artifacts", "https://storage.googleapis.com/idc-index-data-artifacts"
CURRENT = "current/release_artifacts/"
# The versions of the page, and those of the releases of the tests.
VERSIONS = {"25.0.4": "25.0.0", "25.0.5": "25.0.1", "25.1.0": "25.1.0"}


def fill(place: Place, releases: Releases, current: str = "25.0.1") -> None:
    """What today's scripts leave: files, sidecars and no manifest, with the headers that the client sets by itself."""
    for version in ("25.0.0", "25.0.1"):
        for file in releases[version].iterdir():
            if file.name != "manifest.json":
                place.write(f"{version}/release_artifacts/{file.name}", file.read_bytes())
                if version == current:
                    place.write(f"{CURRENT}{file.name}", file.read_bytes())


def old_files(release: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(release).items() if name != "manifest.json"}


@pytest.fixture
def bucket(run: Run, gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """A bucket that pages of other sites may read, with the liberties of Google's storage testbench."""
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    gcs_service.adds, gcs_service.merges = {"x_emulator_upload": "multipart"}, True
    return place


# --- The page -----------------------------------------------------------------------------------------------------


def test_the_page_from_the_first_look_to_the_way_back(
    run: Run, bucket: BucketPlace, small_releases: Releases, environment: dict[str, str]
) -> None:
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}"
    environment |= {"IDC_INDEXER_PUBLISHED_AT": url, "IDC_INDEXER_SOURCE": "sample"}
    fill(bucket, small_releases)

    def follow(line: str) -> Result:
        line = line.replace(f"setup --to {URI}", f"setup --to gs://{BUCKET}")
        line = line.replace(URI, bucket.uri).replace(URL, url).replace(" release ", f" {small_releases['25.1.0']} ")
        for shown, used in VERSIONS.items():
            line = line.replace(shown, used)
        return run(*shlex.split(line)[1:])

    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    look, adoption, forward, back = [[line.strip() for line in block.strip().splitlines()] for block in blocks]
    before = bucket.look()
    for line, exit_code, said in zip(
        look,
        (0, 0, 0, 0),
        ("current: 25.0.1, the same files, not promoted by this toolkit: `idc-indexer adopt 25.0.1`", "set", "OK", ""),
        strict=True,
    ):
        result = follow(line)
        assert (result.exit_code, said in result.stdout) == (exit_code, True), (line, result.output)
    assert "published by another tool" in follow(look[2]).stderr
    assert follow(look[3]).stdout.startswith("none is newer than 25, which is published as 25.0.1")
    assert bucket.look() == before
    assert run("publish", small_releases["25.1.0"], "--to", bucket.uri).exit_code == 0
    refused(run("promote", "25.1.0", "--to", bucket.uri), 2, "no record explains", "idc-indexer adopt")
    for line in adoption:
        assert follow(line).exit_code == 0, line
    assert {name: bucket.look()[name] for name in before} == before
    for line in forward:
        result = follow(line)
        assert result.exit_code == 0, (line, result.output)
    assert below(bucket.look(), CURRENT) == contents(small_releases["25.1.0"])
    outputs = [follow(line) for line in back]
    assert [result.exit_code for result in outputs] == [0, 0, 0, 0], [result.output for result in outputs]
    assert below(bucket.look(), CURRENT) == old_files(small_releases["25.0.1"])
    offered = outputs[0].stderr.splitlines()[-1].strip()
    assert offered == f"idc-indexer withdraw 25.1.0 --to {bucket.uri} --reason 'WHY'"
    assert outputs[2].stdout == (
        "25.0.0: adopted\n25.0.1: adopted\n25.1.0: valid, withdrawn: ct_index lacks the series of nlst\n"
        "current: 25.0.1, OK\n"
    )
    assert run("check", f"{url}/{CURRENT}", "--deep").exit_code == 0
    assert run("diff", "current", "25.0.1").exit_code == 0
    refused(run("promote", "25.1.0", "--to", bucket.uri), 2, "25.1.0 is withdrawn: ct_index lacks", "--allow-withdrawn")
    assert run("promote", "25.1.0", "--to", bucket.uri, "--allow-withdrawn").exit_code == 0


# --- Adopt --------------------------------------------------------------------------------------------------------


def test_adopting_writes_one_record_and_the_root_files(run: Run, place: Place, small_releases: Releases) -> None:
    fill(place, small_releases)
    before = place.look()
    assert "25.0.1 would be adopted: 12 files" in run("adopt", "25.0.1", "--to", place.uri, "--dry-run").stdout
    assert place.look() == before
    result = run("adopt", "25.0.1", "--to", place.uri, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["is_current"] is True
    after = place.look()
    tells_the_truth(after)
    record = json.loads(after.pop("25.0.1/publication.json").content)
    assert {name: after[name] for name in after.keys() - ROOT} == before
    assert (record["adopted"], record["release_version"]) == (True, "25.0.1")
    assert {file["name"] for file in record["files"]} == old_files(small_releases["25.0.1"]).keys()
    assert "is recorded already" in run("adopt", "25.0.1", "--to", place.uri).stdout
    other = run("adopt", "25.0.0", "--to", place.uri)
    assert "`current` has the same files" not in other.stdout


def test_a_release_of_the_toolkit_that_was_copied_is_adopted_with_its_manifest(
    run: Run, place: Place, small_releases: Releases
) -> None:
    for file in small_releases["25.0.0"].iterdir():
        place.write(f"25.0.0/release_artifacts/{file.name}", file.read_bytes())
    assert run("adopt", "25.0.0", "--to", place.uri).exit_code == 0
    place.write("25.0.1/release_artifacts/manifest.json", (small_releases["25.0.0"] / "manifest.json").read_bytes())
    for name, content in old_files(small_releases["25.0.1"]).items():
        place.write(f"25.0.1/release_artifacts/{name}", content)
    refused(run("adopt", "25.0.1", "--to", place.uri), 1, "manifest.json is of version 25.0.0", "manifest lists")


def spoil_version(release: Path) -> None:
    path = release / "version_metadata_index.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"idc_index_data_version": "24.0.0"}), path)
    path.with_name(f"{path.name}.sha256").unlink()


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (lambda r: (r / "collections_index.parquet").write_bytes(b"PAR1"), "collections_index.parquet is not Parquet"),
    (lambda r: (r / "collections_index.parquet").unlink(), "is the sidecar of a file that is missing"),
    (lambda r: (r / "collections_index.parquet.sha256").write_text("0" * 64), "which its sidecar does not state"),
    (lambda r: (r / "collections_index.parquet.sha256").write_text("no digest"), "which its sidecar does not state"),
    (lambda r: (r / "collections_index_schema.json").write_text("[]"), "collections_index_schema.json $"),
    (spoil_version, "version_metadata_index.parquet is of version 24.0.0"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT, ids=range(len(SPOILT)))
def test_a_file_that_contradicts_another_is_named(
    run: Run, tmp_path: Path, small_releases: Releases, spoil: Callable[[Path], object], said: str
) -> None:
    place = FolderPlace(tmp_path / "published")
    release = shutil.copytree(small_releases["25.0.0"], tmp_path / "release")
    spoil(release)
    for name, content in old_files(release).items():
        place.write(f"25.0.0/release_artifacts/{name}", content)
    before = place.look()
    refused(run("adopt", "25.0.0", "--to", place.uri), 1, "25.0.0 cannot be adopted", said, "Nothing was written")
    assert place.look() == before


def test_what_nothing_confirms_is_said(run: Run, tmp_path: Path, small_releases: Releases) -> None:
    place = FolderPlace(tmp_path / "published")
    for name, content in old_files(small_releases["25.0.0"]).items():
        if not name.endswith(".sha256"):
            place.write(f"25.0.0/release_artifacts/{name}", content)
    assert "without a sidecar" in run("adopt", "25.0.0", "--to", place.uri).stdout
    refused(run("adopt", "24.0.0", "--to", place.uri), 1, "there is no version 24.0.0", "idc-indexer status")
    refused(run("adopt", "x", "--to", place.uri), 2, "not of the form X.Y.Z")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_changed_byte_of_a_file_with_a_digest_is_adopted(
    data: st.DataObject, small_releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = FolderPlace(tmp_path_factory.mktemp("published"))
    files = old_files(small_releases["25.0.0"])
    name = data.draw(st.sampled_from(sorted(name for name in files if ".parquet" in name)))
    # the sidecar's digest is its first 64 bytes
    at = data.draw(st.integers(0, (64 if name.endswith(".sha256") else len(files[name])) - 1))
    changed = bytearray(files[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    for each, content in files.items():
        place.write(f"25.0.0/release_artifacts/{each}", bytes(changed) if each == name else content)
    with pytest.raises(IndexerError, match="cannot be adopted"):
        adopt("25.0.0", place.store())


def test_a_composite_object_of_another_tool_is_promoted_as_it_is(
    run: Run, bucket: BucketPlace, small_releases: Releases
) -> None:
    """Large files that gsutil uploaded in parts have no MD5, and their copies have none."""
    fill(bucket, small_releases)
    bucket.gcs.objects()[f"{PREFIX}/25.0.0/release_artifacts/collections_index.parquet"]["md5Hash"] = None
    for version in ("25.0.0", "25.0.1"):
        assert run("adopt", version, "--to", bucket.uri).exit_code == 0
    assert run("promote", "25.0.0", "--to", bucket.uri, "--rollback").exit_code == 0
    assert run("status", "--to", bucket.uri).stdout.endswith("current: 25.0.0, OK\n")


# --- Check --------------------------------------------------------------------------------------------------------


def test_the_old_layout_is_checked_against_its_sidecars(bucket: BucketPlace, small_releases: Releases) -> None:
    fill(bucket, small_releases)
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}"
    assert check(url, deep=True) == []
    name = f"{CURRENT}version_metadata_index.parquet"
    bucket.write(name, small_releases["25.0.0"].joinpath("collections_index.parquet").read_bytes())
    assert {problem.file for problem in check(url)} == {"version_metadata_index.parquet"}


def test_a_lost_manifest_is_not_the_old_layout(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}"
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    bucket.remove(f"{CURRENT}manifest.json")
    assert [str(problem) for problem in check(url)] == ["manifest.json: is missing: HTTP 404"]


def test_one_cause_is_one_line(run: Run, bucket: BucketPlace, small_releases: Releases) -> None:
    """Where 18 tables lacked one rule of the bucket, there were two hundred lines. JSON has each file."""
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}"
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    bucket.gcs.storage.buckets[BUCKET]["cors"] = []
    result = run("check", url)
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "13 files, such as manifest.json: may not be read by pages of other sites (CORS): HEAD has no "
        "Access-Control-Allow-Origin for them",
        "collections_index.parquet: may not be read in parts by pages of other sites: the preflight (OPTIONS) is "
        "refused",
    ]
    assert len(json.loads(run("check", url, "--json").stdout)["problems"]) == 14


@pytest.mark.parametrize("number", [9])
def test_a_cut_promotion_is_told_as_one(run: Run, bucket: BucketPlace, small_releases: Releases, number: int) -> None:
    """Wherever it was cut, readers find good files of two versions: nothing is corrupted."""
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}/{CURRENT}"
    for version in ("25.0.0", "25.0.1"):
        run("publish", small_releases[version], "--to", bucket.uri, *(["--promote"] if version == "25.0.0" else []))
    bucket.without_faults()
    bucket.cut(number, after=False)
    assert run("promote", "25.0.1", "--to", bucket.uri).exit_code == 1
    bucket.without_faults()
    (line,) = run("check", url, "--deep").stdout.splitlines()
    assert line.startswith("promotion.json: the promotion of 25.0.1 has not ended")
    assert "current: 25.0.1, unfinished: promote it again" in run("status", "--to", bucket.uri).stdout
    assert run("promote", "25.0.1", "--to", bucket.uri).exit_code == 0
    assert check(url, deep=True) == []


# --- Withdraw -----------------------------------------------------------------------------------------------------


def test_a_withdrawn_version_is_known_everywhere(
    run: Run, bucket: BucketPlace, small_releases: Releases, tmp_path: Path
) -> None:
    url = f"{bucket.gcs.url}/{BUCKET}/{PREFIX}"
    run("publish", small_releases["25.0.0"], "--to", bucket.uri, "--promote")
    before = bucket.look()
    assert run("withdraw", "25.0.0", "--to", bucket.uri, "--reason", "wrong").exit_code == 0
    assert run("withdraw", "25.0.0", "--to", bucket.uri, "--reason", "half of nlst is missing").exit_code == 0
    after = bucket.look()
    tells_the_truth(after)
    assert json.loads(after.pop("25.0.0/withdrawal.json").content)["reason"] == "half of nlst is missing"
    assert {n: after[n] for n in after.keys() - ROOT} == {n: before[n] for n in before.keys() - ROOT}
    status = run("status", "--to", bucket.uri)
    assert (status.exit_code, status.stdout) == (
        3,
        "25.0.0: valid, withdrawn: half of nlst is missing\ncurrent: 25.0.0, OK, withdrawn\n",
    )
    for folder in ("current", "25.0.0"):
        (problem,) = check(f"{url}/{folder}/release_artifacts/")
        assert str(problem) == "manifest.json: the version is withdrawn: half of nlst is missing"
    refused(run("promote", "25.0.0", "--to", bucket.uri), 2, "25.0.0 is withdrawn: half of nlst is missing")
    release = shutil.copytree(small_releases["25.0.1"], tmp_path / "release")
    for old in ("25.0.0", "current", f"{url}/25.0.0/release_artifacts/", f"{bucket.uri}/25.0.0"):
        said = run("diff", old, release, "--published-at", bucket.uri if old == "current" else url)
        assert said.stdout.splitlines()[1] == f"{old} is withdrawn: half of nlst is missing"
    said = run("verify", release, "--against", "25.0.0", "--published-at", url)
    assert "25.0.0 is withdrawn: half of nlst is missing\n" in said.stderr
    assert run("report", release, "--against", "25.0.0", "--published-at", url).exit_code == 0
    assert "25.0.0 is withdrawn: half of nlst is missing" in (release / "report.html").read_text()


def test_what_cannot_be_withdrawn(run: Run, place: Place, small_releases: Releases) -> None:
    run("publish", small_releases["25.0.0"], "--to", place.uri)
    for reason in ("two\nlines", " ", "x" * 1001):
        assert run("withdraw", "25.0.0", "--to", place.uri, "--reason", reason).exit_code == 2
    refused(run("withdraw", "25.0.9", "--to", place.uri, "--reason", "x"), 1, "there is no version 25.0.9")
    place.write("25.0.0/withdrawal.json", b"{")
    refused(run("promote", "25.0.0", "--to", place.uri), 2, "25.0.0 is withdrawn: ", "not JSON")

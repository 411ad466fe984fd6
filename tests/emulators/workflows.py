"""GitHub Actions on this machine: reads a workflow, decides which jobs and steps run, and runs or rehearses them.

A `Rehearsal` runs nothing: it shows which steps a workflow takes, with which variables, for given inputs and outcomes.
A `Repository` runs `release.yml`: its `run:` steps in bash, with the Python of the tests or a new one; artifacts are
folders with a digest; `gh` is `gh.py`; the actions that the release uses are functions here, which refuse what the real
ones refuse, such as a login without `id-token: write`. It does not prove that GitHub's own machines work the same way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.support.expressions import as_text, condition, render

TOP = Path(__file__).parents[2]
WORKFLOWS = TOP / ".github" / "workflows"
Document = dict[str, Any]


class StepError(Exception):
    """A step failed, and what it said."""


def load(name: str) -> Document:
    """A workflow. YAML takes `on` for a truth value."""
    document: Document = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))
    document["on"] = document.pop(True)  # type: ignore[call-overload]
    return document


def digest(folder: Path) -> str:
    """Of all files of a folder and their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder).as_posix()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass
class Job:
    """The outcome of a job: `success`, `failure` or `skipped`, and the steps that ran."""

    result: str = "skipped"
    outputs: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    steps: list[str] = field(default_factory=list)
    log: str = ""
    summary: str = ""


class StepRunner(Protocol):
    """Runs the steps of one job."""

    def run(self, step: Document, contexts: Document) -> dict[str, str]:
        """Run a step, and return its outputs.

        Raises:
            StepError: the step failed.
        """


class Run:
    """A run of a workflow: which jobs and steps run, in which order, with which contexts.

    A run may be attempted several times: jobs that succeeded do not run again.

    Args:
        machine: makes the runner of a job's steps of its name, document and contexts, and the number of the attempt.
        inputs: of a run that is started by hand; `tag` is that of a `release`.
        variables: of the repository, `vars.*`.
    """

    def __init__(
        self,
        workflow: Document,
        event: str,
        inputs: Mapping[str, object],
        variables: Mapping[str, str],
        machine: Callable[[str, Document, Document, int], StepRunner],
        sha: str = "0" * 40,
    ) -> None:
        self._workflow, self._machine = workflow, machine
        self.jobs: dict[str, Job] = {}
        self.attempts = 0
        trigger = workflow["on"]
        assert event in trigger, f"{event} does not start this workflow"
        given: dict[str, object] = {}
        if event == "workflow_dispatch":
            declared = (trigger[event] or {}).get("inputs", {})
            assert not inputs.keys() - declared.keys(), "inputs that the workflow does not have"
            missing = [name for name, about in declared.items() if about.get("required") and name not in inputs]
            assert not missing, f"required: {missing}"
            given = {name: inputs.get(name, about.get("default")) for name, about in declared.items()}
        github = {
            "event_name": event,
            "event": {"release": {"tag_name": inputs.get("tag")}} if event == "release" else {},
            "repository": "owner/repository",
            "ref": "refs/heads/main",
            "sha": sha,
        }
        # not a machine of GitHub: nothing may be removed from this one
        runner = {"environment": "self-hosted"}
        self._contexts: Document = {"inputs": given, "vars": dict(variables), "github": github, "runner": runner}

    def attempt(self, lost: Callable[[str, int, int], bool] = lambda *_: False) -> dict[str, str]:
        """Run all jobs that have not succeeded.

        Args:
            lost: asked before each step, and after the last, with the job, the number of the step and the count of
                steps: whether the machine goes away then.

        Returns:
            The result of every job.
        """
        self.attempts += 1
        self.jobs = {name: job for name, job in self.jobs.items() if job.result == "success"}
        for name in _in_order(self._workflow["jobs"]):
            if name not in self.jobs:
                self.jobs[name] = self._job(name, self._workflow["jobs"][name], lost)
        return {name: self.jobs[name].result for name in self._workflow["jobs"]}

    def log(self) -> str:
        """The logs of all jobs."""
        return "\n".join(f"== {name}: {job.result}\n{job.log}" for name, job in self.jobs.items())

    def _job(self, name: str, document: Document, lost: Callable[[str, int, int], bool]) -> Job:
        needs = [document["needs"]] if isinstance(document.get("needs"), str) else document.get("needs", [])
        # success() asks the jobs that are named; failure() asks all that those depend on as well
        before = [self.jobs[other].result for other in all_before(self._workflow["jobs"], name)]
        direct = [self.jobs[other].result for other in needs]
        status = _status(all(result == "success" for result in direct), "failure" in before)
        seen = {other: {"result": self.jobs[other].result, "outputs": self.jobs[other].outputs} for other in needs}
        token = " ".join(f"{scope}={level}" for scope, level in document["permissions"].items())
        github = {**self._contexts["github"], "token": token}
        contexts: Document = {**self._contexts, "github": github, "needs": seen, "steps": {}}
        if not condition(document.get("if"), contexts, status):
            return Job()
        job = Job("failure", environment=document.get("environment"))
        contexts["env"] = {}
        for scope in (self._workflow, document):
            contexts["env"] |= {key: render(value, contexts) for key, value in scope.get("env", {}).items()}
        machine = self._machine(name, document, contexts, self.attempts)
        try:
            self._steps(document["steps"], job, contexts, machine, lambda number, count: lost(name, number, count))
        except StepError as error:
            job.log += f"{error}\n"
        else:
            job.result = "success"
            job.outputs = {key: render(value, contexts) for key, value in document.get("outputs", {}).items()}
        job.log = getattr(machine, "log", "") + job.log
        job.summary = getattr(machine, "summary", "")
        return job

    @staticmethod
    def _steps(
        steps: list[Document], job: Job, contexts: Document, machine: StepRunner, lost: Callable[[int, int], bool]
    ) -> None:
        failed: StepError | None = None
        for number, step in enumerate(steps):
            if lost(number, len(steps)):
                raise StepError("the machine is lost")
            if not condition(step.get("if"), contexts, _status(failed is None, failed is not None)):
                continue
            job.steps.append(step["name"])
            outcome, outputs = "success", {}
            try:
                outputs = machine.run(step, contexts)
            except StepError as error:
                outcome = "failure"
                if not step.get("continue-on-error"):
                    failed = failed or error
            if "id" in step:
                contexts["steps"][step["id"]] = {"outcome": outcome, "outputs": outputs}
        if failed:
            raise failed
        if lost(len(steps), len(steps)):
            raise StepError("the machine is lost")


def environment_of(step: Document, contexts: Document) -> dict[str, str]:
    """The variables that the workflow, the job and the step set."""
    return {**contexts["env"], **{key: render(value, contexts) for key, value in step.get("env", {}).items()}}


@dataclass
class Rehearsal:
    """A machine that runs nothing: steps succeed, unless they are named, and have the outputs that are given.

    Attributes:
        failing: names of steps.
        outputs: of steps, by their ids.
        scripts: of the steps that ran, each with its variables.
    """

    failing: Collection[str] = ()
    outputs: Mapping[str, dict[str, str]] = field(default_factory=dict)
    scripts: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def run(self, step: Document, contexts: Document) -> dict[str, str]:
        """Note a step."""
        if "run" in step:
            self.scripts.append((step["run"], environment_of(step, contexts)))
        for value in step.get("with", {}).values():
            render(value, contexts)
        if step["name"] in self.failing:
            raise StepError(f"{step['name']}: is to fail")
        return self.outputs.get(step.get("id", ""), {})

    def start(
        self, workflow: str, event: str, inputs: Mapping[str, object], variables: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """Rehearse a workflow, and return the steps that ran, by job."""
        run = Run(load(workflow), event, inputs, variables, lambda *_: self)
        run.attempt()
        return {name: job.steps for name, job in run.jobs.items() if job.result != "skipped"}


@dataclass
class Repository:
    """A repository on GitHub, and what its workflows published.

    Attributes:
        folder: scratch, and `github/`, where `gh` keeps releases.
        variables: of the repository, `vars.*`.
        environment: more variables of every step: addresses of servers.
        identity: more variables of the steps of jobs that may ask GitHub for an identity.
        programs: folder of the programs that pipx runs.
        new_python: whether every job gets a new virtual environment, as on GitHub, or all use that of the tests.
    """

    folder: Path
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    programs: Path
    new_python: bool = False
    identity: Mapping[str, str] = field(default_factory=dict)
    pypi: dict[str, str] = field(default_factory=dict)
    attested: set[str] = field(default_factory=set)
    runs: int = 0

    def __post_init__(self) -> None:
        (self.folder / "github").mkdir(parents=True)
        (self.folder / "bin").mkdir()
        shims = {
            "gh": f'exec "{sys.executable}" -S "{Path(__file__).with_name("gh.py")}" "$@"',
            "pipx": f'exec "{sys.executable}" "{Path(__file__).with_name("pipx.py")}" "{self.programs}" "$@"',
        }
        for name, script in shims.items():
            path = self.folder / "bin" / name
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(0o755)
        source = self.folder / "source"
        source.mkdir()
        for name in ("queries", "requirements", "schemas", "src"):
            shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("LICENSE", "README.md", "pyproject.toml"):
            shutil.copyfile(TOP / name, source / name)
        if not self.new_python:
            # what is installed is the environment of the tests, which is another one
            (source / "requirements" / "release.lock").write_text("", encoding="utf-8")
        self.origin = self.folder / "origin.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self.git("init", "--quiet", "--initial-branch=main", str(source))
        self.git("-C", str(source), "add", ".")
        self.git("-C", str(source), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "all")
        self.git("-C", str(source), "push", "--quiet", str(self.origin), "main")

    def git(self, *arguments: str) -> str:
        """The output of git, run without the configuration of this machine."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, workflow: str, **inputs: object) -> Run:
        """Start a run by hand."""
        sha = self.git("-C", str(self.origin), "rev-parse", "main").strip()
        self.runs += 1
        machine = partial(self._machine, self.folder / f"run-{self.runs}")
        return Run(load(workflow), "workflow_dispatch", inputs, self.variables, machine, sha)

    def _machine(self, folder: Path, name: str, job: Document, contexts: Document, attempt: int) -> _Machine:
        return _Machine(self, job, folder / str(attempt) / name, folder / "artifacts", contexts)


class _Machine:
    """The machine of one job."""

    def __init__(
        self, repository: Repository, job: Document, workspace: Path, artifacts: Path, contexts: Document
    ) -> None:
        self._repository, self._job, self._workspace, self._artifacts = repository, job, workspace, artifacts
        self.permissions: dict[str, str] = job["permissions"]
        home = workspace.with_name(f"{workspace.name}.home")
        for folder in (workspace, home):
            folder.mkdir(parents=True)
        self._output, self._summary = home / "output", home / "summary"
        self._summary.touch()
        self.log = ""
        self._bin = Path(sys.executable).parent
        self._home = home
        self._environment = {
            "HOME": str(home),
            "CI": "true",
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_STEP_SUMMARY": str(self._summary),
            "GITHUB_SHA": contexts["github"]["sha"],
            "FAKE_GITHUB": str(repository.folder / "github"),
            "IDC_INDEXER_CACHE_DIR": str(home / "cache"),
            **repository.environment,
            **(repository.identity if self.permissions.get("id-token") == "write" else {}),
        }

    @property
    def summary(self) -> str:
        """What the steps wrote for the page of the run."""
        return self._summary.read_text(encoding="utf-8")

    def run(self, step: Document, contexts: Document) -> dict[str, str]:
        """Run a step: an action, or a script in bash."""
        self._output.write_text("", encoding="utf-8")
        self.log += f"-- {step['name']}\n"
        if "uses" in step:
            action, _, version = step["uses"].partition("@")
            assert len(version) == 40, f"{action} is not pinned"
            _ACTIONS[action](self, {key: render(value, contexts) for key, value in step.get("with", {}).items()})
        else:
            self._script(step, environment_of(step, contexts))
        return dict(line.split("=", 1) for line in self._output.read_text(encoding="utf-8").splitlines())

    def _script(self, step: Document, variables: Mapping[str, str]) -> None:
        path = os.pathsep.join(map(str, [self._repository.folder / "bin", self._bin, os.environ["PATH"]]))
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self._workspace,
            env={**self._environment, **variables, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log += done.stdout
        if done.returncode:
            raise StepError(f"{step['name']}: exit code {done.returncode}")

    # --- The actions --------------------------------------------------------------------------------------------

    def need(self, permission: str, level: str) -> None:
        """Fail where the job may not do that."""
        if self.permissions.get(permission) not in (level, "write"):
            raise StepError(f"the job has no permission {permission}: {level}")

    def check_out(self, given: Mapping[str, str]) -> None:
        self.need("contents", "read")
        assert given == {"persist-credentials": "false"}
        self._repository.git("clone", "--quiet", str(self._repository.origin), str(self._workspace))

    def set_up_python(self, given: Mapping[str, str]) -> None:
        assert given["python-version"]
        if self._repository.new_python:
            subprocess.run([sys.executable, "-m", "venv", str(self._home / "python")], check=True)
            self._bin = self._home / "python" / "bin"

    def upload(self, given: Mapping[str, str]) -> None:
        assert given["if-no-files-found"] == "error"
        target = self._artifacts / given["name"]
        found = sorted(path for pattern in given["path"].split() for path in self._workspace.glob(pattern))
        if not found:
            raise StepError(f"no files were found with the provided path: {given['path']}")
        if target.exists():
            assert given["overwrite"] == "true", "an artifact with this name already exists"
            shutil.rmtree(target)
        for path in found:
            if path.is_dir():
                shutil.copytree(path, target)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.name)
        target.with_suffix(".sha256").write_text(digest(target), encoding="utf-8")

    def download(self, given: Mapping[str, str]) -> None:
        assert given["digest-mismatch"] == "error"
        source = self._artifacts / given["name"]
        if not source.exists():
            raise StepError(f"unable to find the artifact {given['name']}")
        if digest(source) != source.with_suffix(".sha256").read_text(encoding="utf-8"):
            raise StepError(f"digest mismatch: {given['name']}")
        shutil.copytree(source, self._workspace / given["path"], dirs_exist_ok=True)

    def log_in(self, given: Mapping[str, str]) -> None:
        self.need("id-token", "write")
        assert given.keys() == {"workload_identity_provider", "service_account"}
        if not all(given.values()):
            raise StepError("must specify workload_identity_provider and service_account")

    def attest(self, given: Mapping[str, str]) -> None:
        self.need("id-token", "write")
        self.need("attestations", "write")
        found = [path for pattern in given["subject-path"].split() for path in self._workspace.glob(pattern)]
        if not found:
            raise StepError("could not find subject")
        self._repository.attested |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def upload_to_pypi(self, given: Mapping[str, str]) -> None:
        self.need("id-token", "write")
        assert self._job["environment"] == "pypi", "trusted publishing knows the environment"
        for path in (self._workspace / given["packages-dir"]).iterdir():
            assert path.suffix in (".whl", ".gz"), f"{path.name} is not a distribution"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.name in self._repository.pypi and as_text(given.get("skip-existing")) != "true":
                raise StepError(f"{path.name}: 400 File already exists")
            self._repository.pypi.setdefault(path.name, digest)


_ACTIONS: Mapping[str, Callable[[_Machine, Mapping[str, str]], None]] = {
    "actions/checkout": _Machine.check_out,
    "actions/setup-python": _Machine.set_up_python,
    "actions/upload-artifact": _Machine.upload,
    "actions/download-artifact": _Machine.download,
    "actions/attest-build-provenance": _Machine.attest,
    "google-github-actions/auth": _Machine.log_in,
    "pypa/gh-action-pypi-publish": _Machine.upload_to_pypi,
}


def _status(success: bool, failure: bool) -> dict[str, Callable[[], bool]]:
    """The functions that conditions ask."""
    return {"success": lambda: success, "failure": lambda: failure, "cancelled": lambda: False, "always": lambda: True}


def all_before(jobs: Mapping[str, Document], name: str) -> set[str]:
    """All that a job depends on."""
    needs = jobs[name].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(all_before(jobs, other) for other in direct))


def _in_order(jobs: Mapping[str, Document]) -> list[str]:
    """The jobs, each after those that it depends on."""
    return sorted(jobs, key=lambda name: (len(all_before(jobs, name)), list(jobs).index(name)))

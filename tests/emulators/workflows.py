"""GitHub Actions on this machine: reads a workflow, runs its jobs in the order of `needs`, their `run:` steps in bash.

What is real: expressions, conditions, permissions, outputs and the commands. What stands in: each job has a folder of
its own, and the Python of the tests or a new one; artifacts are folders that are known by a digest; `gh` is `gh.py`;
the actions that are used are functions here, which refuse what the real ones would, such as a login without
`id-token: write`. What it does not prove: that GitHub's own machines are as this says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
class Repository:
    """A repository on GitHub, with what the world beyond it got to see.

    Attributes:
        folder: scratch, and `github/`, where `gh` keeps releases, issues and pull requests.
        variables: of the repository, `vars.*`.
        environment: of every step besides: addresses of servers.
        programs: folder in which those are kept that pipx runs.
        new_python: whether every job gets a new virtual environment, as on GitHub, or all have that of the tests.
    """

    folder: Path
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    programs: Path
    new_python: bool = False
    pypi: dict[str, str] = field(default_factory=dict)
    attested: set[str] = field(default_factory=set)
    runs: int = 0

    def __post_init__(self) -> None:
        (self.folder / "github").mkdir(parents=True)
        (self.folder / "bin").mkdir()
        shims = {
            "gh": f'exec "{sys.executable}" "{Path(__file__).with_name("gh.py")}" "$@"',
            "pipx": f'exec "{sys.executable}" "{Path(__file__).with_name("pipx.py")}" "{self.programs}" "$@"',
        }
        for name, script in shims.items():
            path = self.folder / "bin" / name
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(0o755)
        source = self.folder / "source"
        unneeded = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "release", "tests")
        shutil.copytree(TOP, source, ignore=unneeded)
        self.origin = self.folder / "origin.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self.git("init", "--quiet", "--initial-branch=main", str(source))
        self.git("-C", str(source), "add", ".")
        self.git("-C", str(source), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "all")
        self.git("-C", str(source), "push", "--quiet", str(self.origin), "main")

    def git(self, *arguments: str) -> str:
        """What git answers, which knows nothing of whoever runs the tests."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, workflow: str, event: str = "workflow_dispatch", /, **inputs: object) -> Run:
        """Start a run: by hand, with inputs; on a schedule; or on `release`, whose tag is the input `tag`."""
        self.runs += 1
        return Run(self, load(workflow), self.folder / f"run{self.runs}", event, inputs)


@dataclass
class Job:
    """What became of a job: `success`, `failure` or `skipped`."""

    result: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    log: str = ""
    summary: str = ""


class Run:
    """A run of a workflow, which may be attempted several times: what succeeded is not done again."""

    def __init__(
        self, repository: Repository, workflow: Document, folder: Path, event: str, given: Mapping[str, object]
    ) -> None:
        self._repository, self._workflow, self._folder = repository, workflow, folder
        self.jobs: dict[str, Job] = {}
        self.attempts = 0
        trigger = workflow["on"]
        assert event in trigger, f"{event} does not start this workflow"
        inputs: dict[str, object] = {}
        if event == "workflow_dispatch":
            declared = (trigger[event] or {}).get("inputs", {})
            assert not given.keys() - declared.keys(), "inputs that the workflow does not have"
            missing = [name for name, about in declared.items() if about.get("required") and name not in given]
            assert not missing, f"required: {missing}"
            inputs = {name: given.get(name, about.get("default")) for name, about in declared.items()}
        self._github = {
            "event_name": event,
            "event": {"release": {"tag_name": given.get("tag")}} if event == "release" else {},
            "repository": "owner/repository",
            "ref": "refs/heads/main",
            "sha": repository.git("-C", str(repository.origin), "rev-parse", "main").strip(),
        }
        self._contexts = {"inputs": inputs, "vars": dict(repository.variables)}

    def attempt(self, lost: Callable[[str, int, int], bool] = lambda *_: False) -> dict[str, str]:
        """Run what has not succeeded.

        Args:
            lost: asked before each step, and after the last, with the job, the number of the step and how many there
                are: whether the machine goes away then.

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
        """What all jobs said."""
        return "\n".join(f"== {name}: {job.result}\n{job.log}" for name, job in self.jobs.items())

    def _job(self, name: str, job: Document, lost: Callable[[str, int, int], bool]) -> Job:
        needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        # A job may look no further than to those it names, but fails with all that these depend on.
        before = [self.jobs[other].result for other in _all_before(self._workflow["jobs"], name)]
        direct = [self.jobs[other].result for other in needs]
        status = {
            "success": lambda: all(result == "success" for result in direct),
            "failure": lambda: "failure" in before,
            "cancelled": lambda: False,
            "always": lambda: True,
        }
        seen = {other: {"result": self.jobs[other].result, "outputs": self.jobs[other].outputs} for other in needs}
        contexts = {**self._contexts, "github": self._github, "needs": seen}
        if not condition(job.get("if"), contexts, status):
            return Job("skipped")
        workspace = self._folder / str(self.attempts) / name
        worker = _Worker(self._repository, self._workflow, job, workspace, self._folder / "artifacts", contexts)
        try:
            outputs = worker.work(lambda number, count: lost(name, number, count))
            result = "success"
        except StepError as error:
            worker.log += f"{error}\n"
            outputs, result = {}, "failure"
        return Job(result, outputs, job.get("environment"), worker.log, worker.summary.read_text(encoding="utf-8"))


class _Worker:
    """The machine of one job."""

    def __init__(
        self,
        repository: Repository,
        workflow: Document,
        job: Document,
        workspace: Path,
        artifacts: Path,
        contexts: Document,
    ) -> None:
        self._repository, self._job, self._workspace, self._artifacts = repository, job, workspace, artifacts
        self.permissions: dict[str, str] = job["permissions"]
        token = " ".join(f"{name}={level}" for name, level in self.permissions.items())
        self._contexts = {**contexts, "github": {**contexts["github"], "token": token}, "steps": {}}
        home = workspace.with_name(f"{workspace.name}.home")
        for folder in (workspace, home):
            folder.mkdir(parents=True)
        self._output, self.summary = home / "output", home / "summary"
        self.summary.touch()
        self.log = ""
        self._bin = Path(sys.executable).parent
        self._home = home
        self._environment = {
            "HOME": str(home),
            "CI": "true",
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_SHA": contexts["github"]["sha"],
            "FAKE_GITHUB": str(repository.folder / "github"),
            "IDC_INDEXER_CACHE_DIR": str(home / "cache"),
            **repository.environment,
        }
        for scope in (workflow, job):
            self._environment |= {key: self._render(value) for key, value in scope.get("env", {}).items()}

    def work(self, lost: Callable[[int, int], bool]) -> dict[str, str]:
        """Take the steps.

        Returns:
            The outputs of the job.

        Raises:
            StepError: one of them failed.
        """
        failed: StepError | None = None
        steps = self._job["steps"]
        status = {
            "success": lambda: failed is None,
            "failure": lambda: failed is not None,
            "cancelled": lambda: False,
            "always": lambda: True,
        }
        for number, step in enumerate(steps):
            if lost(number, len(steps)):
                raise StepError("the machine is lost")
            if not condition(step.get("if"), self._contexts, status):
                continue
            outcome = "success"
            self._output.write_text("", encoding="utf-8")
            try:
                self.log += f"-- {step['name']}\n"
                self._action(step) if "uses" in step else self._script(step)
            except StepError as error:
                outcome = "failure"
                if not step.get("continue-on-error"):
                    failed = failed or error
            outputs = dict(line.split("=", 1) for line in self._output.read_text(encoding="utf-8").splitlines())
            if "id" in step:
                self._contexts["steps"][step["id"]] = {"outcome": outcome, "outputs": outputs}
        if failed:
            raise failed
        if lost(len(steps), len(steps)):
            raise StepError("the machine is lost")
        return {name: self._render(value) for name, value in self._job.get("outputs", {}).items()}

    def _render(self, value: object) -> str:
        return render(value, self._contexts)

    def _script(self, step: Document) -> None:
        # Only what the environment has gets into a script, so that no input can be more than a value.
        assert "${{" not in step["run"], step["name"]
        environment = self._environment | {key: self._render(value) for key, value in step.get("env", {}).items()}
        environment["PATH"] = os.pathsep.join(
            map(str, [self._repository.folder / "bin", self._bin, os.environ["PATH"]])
        )
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self._workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log += done.stdout
        if done.returncode:
            raise StepError(f"{step['name']}: exit code {done.returncode}")

    def _action(self, step: Document) -> None:
        action, _, version = step["uses"].partition("@")
        assert len(version) == 40, f"{action} is not pinned"
        given = {key: self._render(value) for key, value in step.get("with", {}).items()}
        _ACTIONS[action](self, given)

    # --- The actions --------------------------------------------------------------------------------------------

    def estimate(self, permission: str, level: str) -> None:
        """Fail where the job may not do that."""
        if self.permissions.get(permission) not in (level, "write"):
            raise StepError(f"the job has no permission {permission}: {level}")

    def check_out(self, given: Mapping[str, str]) -> None:
        self.estimate("contents", "read")
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
        found = sorted(self._workspace.glob(given["path"]))
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
        self.estimate("id-token", "write")
        assert given.keys() == {"workload_identity_provider", "service_account"}
        if not all(given.values()):
            raise StepError("must specify workload_identity_provider and service_account")

    def attest(self, given: Mapping[str, str]) -> None:
        self.estimate("id-token", "write")
        self.estimate("attestations", "write")
        found = [path for pattern in given["subject-path"].split() for path in self._workspace.glob(pattern)]
        if not found:
            raise StepError("could not find subject")
        self._repository.attested |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def upload_to_pypi(self, given: Mapping[str, str]) -> None:
        self.estimate("id-token", "write")
        assert self._job["environment"] == "pypi", "trusted publishing knows the environment"
        for path in (self._workspace / given["packages-dir"]).iterdir():
            assert path.suffix in (".whl", ".gz"), f"{path.name} is not a distribution"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.name in self._repository.pypi and as_text(given.get("skip-existing")) != "true":
                raise StepError(f"{path.name}: 400 File already exists")
            self._repository.pypi.setdefault(path.name, digest)


_ACTIONS: Mapping[str, Callable[[_Worker, Mapping[str, str]], None]] = {
    "actions/checkout": _Worker.check_out,
    "actions/setup-python": _Worker.set_up_python,
    "actions/upload-artifact": _Worker.upload,
    "actions/download-artifact": _Worker.download,
    "actions/attest-build-provenance": _Worker.attest,
    "google-github-actions/auth": _Worker.log_in,
    "pypa/gh-action-pypi-publish": _Worker.upload_to_pypi,
}


def _all_before(jobs: Mapping[str, Document], name: str) -> set[str]:
    """All that a job depends on."""
    needs = jobs[name].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(_all_before(jobs, other) for other in direct))


def _in_order(jobs: Mapping[str, Document]) -> list[str]:
    """The jobs, each after those that it depends on."""
    return sorted(jobs, key=lambda name: (len(_all_before(jobs, name)), list(jobs).index(name)))

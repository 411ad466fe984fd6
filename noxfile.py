"""The one way to run tests and checks, on any system: `nox` runs the tests, `nox --list` shows the other sessions.

The session `dev` makes the virtual environment .nox/dev once; all others run in it. Arguments after `--` go to pytest:
`nox -s unit -- -k verify`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"  # the first in which a session can require another one
nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"  # uv, if it is there, installs in a third of the time

PROGRAMS = Path(".nox", "dev", "Scripts" if sys.platform == "win32" else "bin").absolute()
in_dev = partial(nox.session, python=False, requires=["dev"])


@nox.session
def dev(session: nox.Session) -> None:
    """Install the package and all tools; pip too, which tests and the session duckdb1 run."""
    session.install("pip", "--editable", ".[dev]")


def run(session: nox.Session, program: str, *arguments: str, **environment: str) -> None:
    """Run a program of the environment.

    It stores what Python compiles, which images of containers often switch off: then each process of the tests compiles
    all that it imports, and those of the command line take 1.4 times the processor time.
    """
    session.run(str(PROGRAMS / program), *arguments, env={"PYTHONDONTWRITEBYTECODE": "", **environment})


def pytest(session: nox.Session, marked: str, **environment: str) -> None:
    """Run the tests that have these markers."""
    # One more than processors, as tests wait for disks and timers: 0.90 of the time of `auto` for those that publish.
    workers = ("--numprocesses", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
    run(session, "python", "-m", "pytest", *workers, "-m", marked, *session.posargs, **environment)


@in_dev
def tests(session: nox.Session) -> None:
    """Run all tests but the slow ones, with the newest DuckDB."""
    pytest(session, "not slow")


@in_dev
def unit(session: nox.Session) -> None:
    """Run what to run while working: tests without processes, servers and oracle, under a minute."""
    pytest(session, "unit")


@in_dev
def duckdb1(session: nox.Session) -> None:
    """Run the tests that touch DuckDB, with DuckDB 1."""
    folder = PROGRAMS.parent / "duckdb1"  # precedes the installed one; a second environment would take a minute
    run(session, "python", "-m", "pip", "install", "-q", "--upgrade", "--no-deps", "--target", str(folder), "duckdb<2")
    pytest(session, "duckdb and not slow", PYTHONPATH=str(folder))


@in_dev
def product(session: nox.Session) -> None:
    """Run the tests of the package itself: all but the session `project`."""
    pytest(session, "not slow and not project")


@in_dev
def project(session: nox.Session) -> None:
    """Test workflows, docs and packaging."""
    pytest(session, "project and not slow")


@in_dev
def slow(session: nox.Session) -> None:
    """Run the tests that take long or need gigabytes of disk, before a release."""
    pytest(session, "slow")


@in_dev
def lint(session: nox.Session) -> None:
    """Check spelling, style and types."""
    run(session, "codespell")
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "mypy")


@in_dev
def lock(session: nox.Session) -> None:
    """Write requirements/release.lock, from which releases install; `-- --upgrade` takes the newest versions."""
    where = ("--config-file", "requirements/uv.toml", "--output-file", "requirements/release.lock")
    run(session, "uv", "pip", "compile", "--quiet", "pyproject.toml", *where, *session.posargs)


@in_dev
def docs(session: nox.Session) -> None:
    """Show the docs at http://127.0.0.1:8000."""
    run(session, "mkdocs", "serve")

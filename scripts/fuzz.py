"""Run build, stage, verify, diff and report on damaged files, and count what no user may see.

    python scripts/fuzz.py --minutes 60 --seed 1
    python scripts/fuzz.py --seed 1 --only 4711

Each input is a good one that `tests/support/damage.py` damaged at random: a shard of an export, a Parquet file, a
manifest or a schema of a release, a data wheel. Three of four releases have digests that fit the damaged file, so that
`verify` looks further. Each command runs in a child process. A failure is a traceback, an end by a signal, more than
30 seconds, an exit code other than 0 to 3, or an error without a message. Failures are printed with their number, by
which `--only` runs one again, and shows its output. Linux and macOS; exits with 1 if there are failures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

# All that the children need is imported before they are forked: a command then takes a tenth of a second.
import duckdb  # noqa: F401
import obstore  # noqa: F401
import pyarrow.dataset
import pyarrow.parquet
from tests.emulators.s3 import S3Server
from tests.support import damage

import idc_indexer
import idc_indexer.api.build
import idc_indexer.api.compare
import idc_indexer.api.publish
import idc_indexer.catalog
import idc_indexer.engines.duckdb
import idc_indexer.exports.staging
import idc_indexer.publish.wheel
import idc_indexer.release.build
import idc_indexer.report
import idc_indexer.sql
from idc_indexer.cli import main

SECONDS = 30
INDICES = ("idc_index", "collections_index", "ct_index", "version_metadata_index")
VERSION = ("--idc-version", "25", "--release-version", "25.0.0")
Command = list[str]


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `failure` is empty if it ended as it may."""

    failure: str
    output: str


@dataclass(frozen=True)
class Try:
    """A damaged input: what kind it is, and the commands that are run on it, by name."""

    kind: str
    commands: dict[str, Command]


class Inputs:
    """Good inputs, made once, and the damaged ones made from them, in a folder that each replaces."""

    def __init__(self, folder: Path, s3: S3Server) -> None:
        self.folder, self.s3 = folder, s3
        self.sample = Path(idc_indexer.__file__).parent / "sample"
        self.good, self.wheels, self.work = folder / "good", folder / "wheels", folder / "work"
        self.export = folder / "export" / "public"
        shutil.copytree(self.sample, self.export)
        made = run(["build", *INDICES, "--source", "sample", *VERSION, "--out", str(self.good)], folder)
        made_wheel = run(["wheel", str(self.good), "--out", str(self.wheels), *self._partial()], folder)
        if made.failure or made_wheel.failure or not any(self.wheels.glob("*.whl")):
            raise SystemExit(made.output + made_wheel.output)

    def _partial(self) -> Command:
        text = run(["wheel", "--help"], self.folder).output
        return ["--partial"] if "--partial" in text else []

    def make(self, rng: random.Random) -> Try:
        """A damaged input, and the commands for it."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        makers: dict[Callable[[random.Random], Try], int] = {
            self._parquet: 4,
            self._shard: 4,
            self._document: 2,
            self._wheel: 1,
        }
        (make,) = rng.choices(list(makers), list(makers.values()))
        return make(rng)

    def _release(self, name: str, content: bytes, fits: bool) -> dict[str, Command]:
        release = self.work / "release"
        shutil.copytree(self.good, release)
        (release / name).write_bytes(content)
        if fits:
            fit(release, name)
        commands = {
            "verify": ["verify", str(release)],
            "diff": ["diff", str(self.good), str(release)],
            "report": ["report", str(release)],
        }
        if name.endswith(".parquet"):
            commands["diff of files"] = ["diff", str(release / name), str(self.good / name)]
        return commands

    def _parquet(self, rng: random.Random) -> Try:
        name = f"{rng.choice(INDICES)}.parquet"
        how = rng.choice(sorted(damage.PARQUET))
        content = damage.PARQUET[how]((self.good / name).read_bytes(), rng)
        return Try(f"Parquet: {how}", self._release(name, content, rng.randrange(4) > 0))

    def _document(self, rng: random.Random) -> Try:
        name = rng.choice(["manifest.json", "manifest.json", *(f"{index}_schema.json" for index in INDICES)])
        how = rng.choice(sorted(damage.JSON))
        content = damage.JSON[how]((self.good / name).read_bytes(), rng)
        kind = "manifest" if name == "manifest.json" else "schema"
        return Try(f"{kind}: {how}", self._release(name, content, fits=name != "manifest.json"))

    def _wheel(self, rng: random.Random) -> Try:
        (wheel,) = self.wheels.glob("*.whl")
        how = rng.choice(sorted(damage.ZIP))
        damaged = self.work / wheel.name
        damaged.write_bytes(damage.ZIP[how](wheel.read_bytes(), rng))
        return Try(f"wheel: {how}", {"diff": ["diff", str(damaged), str(self.good)]})

    def _shard(self, rng: random.Random) -> Try:
        """A shard of the export, which is put back by the next one."""
        shards = sorted((self.sample / "idc_v25").glob("*/*.parquet"))
        for shard in shards:
            target = self.export / shard.relative_to(self.sample)
            if target.stat().st_mtime != shard.stat().st_mtime:
                shutil.copy2(shard, target)
        shard = rng.choice(shards)
        how = rng.choice(sorted(damage.PARQUET))
        target = self.export / shard.relative_to(self.sample)
        target.write_bytes(damage.PARQUET[how](shard.read_bytes(), rng))
        index = {
            "version_metadata": "version_metadata_index",
            "original_collections_metadata": "collections_index",
            "analysis_results_metadata": "analysis_results_index",
        }.get(shard.parent.name, rng.choice(("idc_index", "ct_index", "seg_index")))
        cache = ["--cache-dir", str(self.work / "cache")]
        build = ["build", index, *VERSION, "--out", str(self.work / "built"), "--source", str(self.export)]
        stage = ["stage", index, "--idc-version", "25", "--source", "s3://public", *cache]
        return Try(f"shard: {how}", {"build": build, "stage": stage})


def fit(release: Path, name: str) -> None:
    """Make the sidecar and the manifest fit a file, as if it had been written like this."""
    content = (release / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if name.endswith(".parquet"):
        (release / f"{name}.sha256").write_bytes(f"{digest}  {name}\n".encode())
    manifest = json.loads((release / "manifest.json").read_bytes())
    for entry in manifest["indices"]:
        for file in entry["files"]:
            beside = (release / file["name"]).read_bytes()
            file |= {"bytes": len(beside), "sha256": hashlib.sha256(beside).hexdigest()}
            if file["name"].endswith("_schema.json"):
                entry["schema_sha256"] = file["sha256"]
    (release / "manifest.json").write_text(json.dumps(manifest))


def run(command: Command, folder: Path, environment: dict[str, str] | None = None) -> Outcome:
    """Run a command of the toolkit in a child process."""
    path = folder / "output"
    child = os.fork()
    if not child:
        _child(command, path, environment or {})
    status, end = None, time.monotonic() + SECONDS
    while status is None:
        pid, found = os.waitpid(child, os.WNOHANG)
        if pid:
            status = found
        elif time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(f"hang: over {SECONDS} s", path.read_text(errors="replace"))
        else:
            time.sleep(0.005)
    return _outcome(os.waitstatus_to_exitcode(status), path.read_text(errors="replace"))


def _child(command: Command, path: Path, environment: dict[str, str]) -> None:
    """Does not return."""
    code = 99
    try:
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(environment)
        os.environ["PYTHONFAULTHANDLER"] = ""
        # The pools of Arrow and DuckDB would otherwise take all processors for a few kilobytes.
        pyarrow.set_cpu_count(2)
        main(command, prog_name="idc-indexer")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(code: int, output: str) -> Outcome:
    if code < 0:
        return Outcome(f"signal {-code}", output)
    if "Traceback (most recent call last)" in output:
        frames = re.findall(r'idc_indexer/(\S+\.py)", line (\d+)', output) or [("", "")]
        error = re.findall(r"^[\w.]+(?:Error|Exception|Warning|Exit)?(?=:|$)", output, re.MULTILINE)
        return Outcome(f"traceback: {(error or ['?'])[-1]} in {frames[-1][0]}:{frames[-1][1]}", output)
    if code not in (0, 1, 2, 3):
        return Outcome(f"exit code {code}", output)
    if code == 1 and not re.search(r"Error: \S", output):
        return Outcome("no message", output)
    return Outcome("", output)


def tries(inputs: Inputs, seed: int, numbers: Iterator[int]) -> Iterator[tuple[int, str, str, Outcome]]:
    """Number, kind of input, command, and how it ended."""
    environment = {**inputs.s3.environment, "IDC_INDEXER_CACHE_DIR": str(inputs.folder / "cache")}
    for number in numbers:
        one = inputs.make(random.Random(f"{seed} {number}"))  # noqa: S311 -- the same inputs every time
        for name, command in one.commands.items():
            yield number, one.kind, name, run(command, inputs.folder, environment)


def until(minutes: float, most: int | None) -> Iterator[int]:
    """Numbers, until the time is over, or there are enough."""
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end and number != most:
        yield number
        number += 1


def show(tried: Counter[tuple[str, str]], failed: Counter[tuple[str, str]]) -> None:
    """A table: kind of input, command, runs, failures."""
    print("| input | command | runs | failures |\n|---|---|---|---|")
    for kind, command in sorted(tried):
        print(f"| {kind} | {command} | {tried[kind, command]} | {failed[kind, command]} |")
    print(f"| all | | {sum(tried.values())} | {sum(failed.values())} |")


def fuzz(arguments: Any) -> int:
    """Run, print, and return the exit code."""
    numbers = until(arguments.minutes, arguments.inputs) if arguments.only is None else iter([arguments.only])
    tried: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    reasons: dict[str, list[int]] = {}
    inputs_tried = 0
    with ExitStack() as stack:
        # Not as the toolkit names its temporary folders: commands remove those that nobody has locked.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-of-idc-indexer-")))
        (folder / "export").mkdir()
        s3 = stack.enter_context(S3Server({"public": folder / "export" / "public"}))
        for number, kind, command, outcome in tries(Inputs(folder, s3), arguments.seed, numbers):
            if number == inputs_tried and number % 100 == 0:
                print(f"{number} inputs, {sum(failed.values())} failures", file=sys.stderr, flush=True)
            inputs_tried = max(inputs_tried, number + 1)
            tried[kind, command] += 1
            if arguments.only is not None:
                print(f"--- {kind}, {command}: {outcome.failure or 'OK'}\n{outcome.output}")
            if outcome.failure:
                failed[kind, command] += 1
                reasons.setdefault(f"{command}: {outcome.failure}", []).append(number)
                print(f"{number} {kind}, {command}: {outcome.failure}", file=sys.stderr, flush=True)
    show(tried, failed)
    print(f"\n{inputs_tried} damaged inputs, seed {arguments.seed}")
    for reason, found in sorted(reasons.items(), key=lambda item: -len(item[1])):
        print(f"{len(found)} times {reason}, such as --only {found[0]}")
    return bool(reasons)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--inputs", type=int, help="Stop after this many inputs.")
    parser.add_argument("--only", type=int, help="Run the input of this number again, and show the output.")
    sys.exit(fuzz(parser.parse_args()))

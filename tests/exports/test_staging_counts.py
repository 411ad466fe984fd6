"""What staging asks of S3 for shards as wide as the real ones, counted by the server: requests, footers, bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import Run, once
from tests.emulators.s3 import S3Server, Seen
from tests.support.needed import BUCKET, WIDE, look_at_all, needed_columns, total
from tests.support.wide_export import wide_export

pytestmark = pytest.mark.slow
SHARDS = 30


@pytest.fixture(scope="module", params=["public", "read first"])
def export(request: pytest.FixtureRequest, published: Path, shared: Path) -> Path:
    """A wide export whose columns are in the order of the public table, or those first that are read."""
    name = f"wide {request.param}"
    return once(
        shared / name,
        lambda folder: wide_export(published, folder / "export", shards=SHARDS, read_first=request.param != "public"),
    )


@pytest.fixture
def staged(export: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the server saw of staging all indices."""
    with S3Server({BUCKET: export / "export"}) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        result = run("stage", "--source", f"s3://{BUCKET}", "--idc-version", 25)
        assert result.exit_code == 0, result.stderr
        return s3.seen()


def test_counts(export: Path, staged: Seen) -> None:
    shards = look_at_all(export / "export", needed_columns())
    wide = {key: shard for key, shard in shards.items() if key.startswith(f"{WIDE}/")}
    assert len(wide) == SHARDS
    assert staged.requests["head"] == staged.requests["other"] == staged.signed == 0
    # Every byte of a shard at most once, so that no footer is read twice; all footers, so that none is guessed.
    for key, shard in shards.items():
        ranges = sorted(staged.ranges[f"{BUCKET}/{key}"])
        assert all(last < first for (_, last), (first, _) in pairwise(ranges)), key
        assert ranges[-1][1] == shard.end - 1
    # Each table's first shard tells how long footers are: only that one may take a second request.
    assert staged.total <= 1.15 * total(shards)
    assert sum(staged.bytes[f"{BUCKET}/{key}"] for key in wide) <= 1.15 * total(wide)
    requests = sum(len(staged.ranges[f"{BUCKET}/{key}"]) for key in wide) / SHARDS
    # In the order of the public table, six requests would fetch twice the bytes: docs/staging.md.
    assert requests <= (25 if "public" in export.name else 6)

"""Regression checks: each change beyond the limits is found, named, and can be accepted with a reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idc_indexer import documents
from idc_indexer.diff import diff, open_inputs
from idc_indexer.diff.regressions import findings, load_limits
from idc_indexer.release.manifest import release_lock
from tests.conftest import Run, contents, refused, setting
from tests.support import damage


def without_rows(share: float) -> damage.Change:
    return lambda rows: rows[round(rows.num_rows * share) :]


def old_of(release: Path, folder: Path, index: str, change: damage.Change) -> Path:
    """What was before: the same files, but for one table."""
    before = folder / "before"
    before.mkdir()
    for path in [*release.glob("*.parquet"), *release.glob("*_schema.json")]:
        shutil.copy(path, before)
    path = before / f"{index}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    return before


def doubled(rows: pa.Table) -> pa.Table:
    """As many more rows, with keys of their own."""
    names = [f"{uid}.0" for uid in rows["SeriesInstanceUID"].to_pylist()]
    return pa.concat_tables([rows, setting("SeriesInstanceUID", names)(rows)])


def in_collection(name: str) -> damage.Change:
    return lambda rows: pa.concat_tables([setting("collection_id", [name])(rows[:1]), rows[1:]])


FOUND: list[tuple[str, damage.Change, set[str]]] = [
    ("ct_index", lambda rows: rows.append_column("Filter", pa.array(["x"] * len(rows))), {"column:ct_index.Filter"}),
    ("ct_index", damage.cast("KVP", pa.string()), {"type:ct_index.KVP"}),
    ("ct_index", doubled, {"rows:ct_index", "gone:ct_index"}),
    ("idc_index", in_collection("vanished"), {"collection:vanished"}),
    ("idc_index", setting("PatientAge", ["061Y"]), {"nulls:idc_index.PatientAge"}),
    ("collections_index", in_collection("vanished"), {"gone:collections_index"}),
    ("ct_index", lambda rows: pa.concat_tables([rows, rows[:1]]), {"match:ct_index", "rows:ct_index"}),
    ("version_metadata_index", without_rows(0.5), set()),
    ("idc_index", damage.swapped(0, 1), set()),
]


@pytest.mark.parametrize(("index", "before", "names"), FOUND, ids=range(len(FOUND)))
def test_what_must_not_change_unnoticed_is_found(
    sample_release: Path, tmp_path: Path, run: Run, index: str, before: damage.Change, names: set[str]
) -> None:
    old = old_of(sample_release, tmp_path, index, before)
    untouched = contents(sample_release)
    result = run("verify", sample_release, "--against", old, "--json")
    assert result.exit_code == (3 if names else 0), result.stdout
    found = json.loads(result.stdout)
    assert {finding["name"] for finding in found["findings"]} == names
    assert found["problems"] == []
    assert contents(sample_release) == untouched
    assert run("diff", old, sample_release).exit_code == (0 if index == "idc_index" and before == FOUND[-1][1] else 3)


def test_an_index_and_a_key_that_are_gone_are_found(
    wheel_release: Path, sample_release: Path, tmp_path: Path, run: Run
) -> None:
    result = run("verify", wheel_release, "--against", sample_release)
    assert result.exit_code == 3
    assert "index:ct_index: the index was removed\n" in result.stdout
    old = tmp_path / "old"
    shutil.copytree(wheel_release, old)
    damage.redescribe("idc_index", primary_key=["crdc_series_uuid"])(old)
    result = run("verify", wheel_release, "--against", old)
    assert "key:idc_index: the key changed from crdc_series_uuid to SeriesInstanceUID\n" in result.stdout


@pytest.mark.parametrize(("drop", "limit", "found"), [(3, 2.9, True), (3, 3, False), (0, 0, False)])
def test_a_limit_is_the_most_that_may_change(tmp_path: Path, drop: int, limit: float, found: bool) -> None:
    for name, rows in (("old", 100), ("new", 100 - drop)):
        pq.write_table(pa.table({"k": range(rows)}), tmp_path / f"{name}.parquet")
    with open_inputs(str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet")) as inputs:
        difference = diff(*inputs, key=["k"])
    limits = {**load_limits(), "indices": {"new": {"rows_drop_percent": limit, "rows_gone_percent": 100}}}
    assert [one.name for one in findings(difference, limits)] == (["rows:new"] if found else [])


@pytest.mark.parametrize(("nulls", "found"), [(30, False), (31, True), (0, False)])
def test_the_share_of_null_may_rise_as_far_as_its_limit(tmp_path: Path, nulls: int, found: bool) -> None:
    for name, count in (("old", 28), ("new", nulls)):
        values = pa.array([None] * count + ["x"] * (100 - count), pa.string())
        pq.write_table(pa.table({"k": range(100), "v": values}), tmp_path / f"{name}.parquet")
    with open_inputs(str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet")) as inputs:
        difference = diff(*inputs, key=["k"])
    limits = {**load_limits(), "null_share_rise_points": 2}
    assert [one.name for one in findings(difference, limits)] == (["nulls:new.v"] if found else [])


@pytest.mark.oracle
def test_published_releases_have_regressions_that_are_found(packages: Callable[[str], Path]) -> None:
    with open_inputs(str(packages("24.2.2")), str(packages("25.0.5"))) as inputs:
        tables = ("analysis_results_index", "collections_index", "prior_versions_index", "version_metadata_index")
        found = diff(*inputs, tables)
    assert {one.name for one in findings(found, load_limits())} == {
        "type:collections_index.sources",
        "nulls:collections_index.supporting_data",
        "column:prior_versions_index.gcs_bucket_1",
    }


# --- Accepting ---------------------------------------------------------------------------------------------------


@pytest.fixture
def release(wheel_release: Path, tmp_path: Path) -> Path:
    return shutil.copytree(wheel_release, tmp_path / "release")


@pytest.fixture
def old(wheel_release: Path, tmp_path: Path) -> Path:
    return old_of(wheel_release, tmp_path, "idc_index", in_collection("vanished"))


def accepted(release: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = documents.load(release / "manifest.json", "manifest").get("accepted", [])
    return found


def test_an_acceptance_is_kept_in_the_manifest_and_published(
    release: Path, old: Path, tmp_path: Path, run: Run
) -> None:
    accept = ("--accept", "collection:vanished=withdrawn = by its authors")
    result = run("verify", release, "--against", old, *accept)
    assert result.exit_code == 0, result.stdout
    assert "(accepted: withdrawn = by its authors)\n" in result.stdout
    (one,) = accepted(release)
    assert (one["finding"], one["reason"]) == ("collection:vanished", "withdrawn = by its authors")
    assert one["against"] == "25.0.0"
    assert "collection was removed" in one["message"]
    before = contents(release)
    # again, with and without: nothing is asked twice, and nothing is written
    assert run("verify", release, "--against", old).exit_code == 0
    assert run("verify", release, "--against", old, *accept).exit_code == 0
    assert run("verify", release).exit_code == 0
    assert contents(release) == before
    assert run("publish", release, "--to", tmp_path / "published").exit_code == 0
    assert accepted(tmp_path / "published" / "25.0.0" / "release_artifacts") == [one]
    # of another release before, it says nothing
    other = tmp_path / "other"
    shutil.copytree(old, other)
    for path in other.glob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata({"idc_index_data_version": "24.0.0"}), path)
    assert run("verify", release, "--against", other).exit_code == 3


def test_what_is_not_accepted_still_fails(wheel_release: Path, release: Path, tmp_path: Path, run: Run) -> None:
    def change(rows: pa.Table) -> pa.Table:
        return setting("PatientAge", ["061Y"])(in_collection("vanished")(rows))

    before = old_of(wheel_release, tmp_path, "idc_index", change)
    result = run("verify", release, "--against", before, "--accept", "collection:vanished=known")
    assert result.exit_code == 3
    assert len(accepted(release)) == 1
    result = run("verify", release, "--against", before, "--accept", "nulls:idc_index.PatientAge=known too")
    assert result.exit_code == 0
    assert [one["finding"] for one in accepted(release)] == ["collection:vanished", "nulls:idc_index.PatientAge"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "OLD", "--accept", "rows:idc_index=why"], "--accept rows:idc_index: no such finding"),
        (["--against", "OLD", "--accept", "collection:vanished"], "--accept collection:vanished: no reason given"),
        (["--against", "OLD", "--accept", "collection:vanished= "], "--accept collection:vanished: no reason given"),
        (["--accept", "collection:vanished=why"], "Give --against too"),
    ],
)
def test_what_cannot_be_accepted_is_said(release: Path, old: Path, run: Run, arguments: list[str], said: str) -> None:
    before = contents(release)
    refused(run("verify", release, *(str(old) if a == "OLD" else a for a in arguments)), 2, said)
    assert contents(release) == before


def test_a_removed_collection_covers_what_follows_from_it(sample_release: Path, tmp_path: Path, run: Run) -> None:
    """Forty findings for one collection, one acceptance. A loss of its own is not covered."""
    release, old = shutil.copytree(sample_release, tmp_path / "release"), tmp_path / "old"
    shutil.copytree(sample_release, old)
    (old / "manifest.json").unlink()
    for name in ("idc_index", "collections_index", "ct_index", "mr_index", "volume_geometry_index", "tcia_idc_subset"):
        path = old / f"{name}.parquet"
        rows = pq.read_table(path)
        more = rows[:40] if name != "collections_index" else rows[:1]
        changes = {"collection_id": ["vanished"], "SeriesInstanceUID": [f"9.{n}" for n in range(40)]}
        for column, values in changes.items():
            more = setting(column, values)(more) if column in rows.schema.names else more
        pq.write_table(pa.concat_tables([rows, more]), path)
        path.with_name(f"{path.name}.sha256").unlink()
    result = run("verify", release, "--against", old, "--json")
    found = {one["name"]: one["follows"] for one in json.loads(result.stdout)["findings"]}
    assert len(found) > 10
    assert found.pop("collection:vanished") == []
    assert set(map(tuple, found.values())) == {("collection:vanished",)}
    text = run("verify", release, "--against", old).stdout
    assert text.count("to accept it: ") == 1
    assert text.count("follows from collection:vanished: accept that") == len(found)
    accept = ("--accept", "collection:vanished=withdrawn by its authors")
    assert run("verify", release, "--against", old, *accept).exit_code == 0
    assert [one["finding"] for one in accepted(release)] == ["collection:vanished"]
    assert run("verify", release, "--against", old).exit_code == 0
    rows = pq.read_table(old / "ct_index.parquet")
    more = setting("SeriesInstanceUID", [f"8.{n}" for n in range(20)])(rows[:20])
    pq.write_table(pa.concat_tables([rows, more]), old / "ct_index.parquet")
    result = run("verify", release, "--against", old)
    assert result.exit_code == 3
    assert set(re.findall(r"accept it: --accept '(.*)=REASON'", result.stdout)) >= {"rows:ct_index", "gone:ct_index"}


def test_limits_of_ones_own(release: Path, wheel_release: Path, tmp_path: Path, run: Run) -> None:
    before = old_of(wheel_release, tmp_path, "idc_index", setting("PatientAge", ["061Y"]))
    limits = {**load_limits(), "null_share_rise_points": 100}
    (tmp_path / "limits.json").write_text(json.dumps(limits))
    assert run("verify", release, "--against", before).exit_code == 3
    assert run("verify", release, "--against", before, "--limits", tmp_path / "limits.json").exit_code == 0
    (tmp_path / "limits.json").write_text(json.dumps({**limits, "rows_drop_percent": "all"}))
    refused(run("verify", release, "--against", before, "--limits", tmp_path / "limits.json"), 1, "rows_drop_percent")


def test_a_release_that_is_not_whole_is_not_compared(release: Path, old: Path, run: Run) -> None:
    damage.change_byte("idc_index.sql")(release)
    before = contents(release)
    result = run("verify", release, "--against", old, "--accept", "collection:vanished=why")
    assert result.exit_code == 3
    assert "the release has problems" in result.stderr
    assert contents(release) == before


def test_nothing_is_accepted_while_another_command_writes(release: Path, old: Path, run: Run) -> None:
    with release_lock(release):
        result = run("verify", release, "--against", old, "--accept", "collection:vanished=why")
    assert result.exit_code == 1
    assert "is writing there" in result.stderr
    assert accepted(release) == []

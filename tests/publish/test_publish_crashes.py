"""Every request of a publication and a promotion is cut once, before it is done and after; running again completes it.

And at every request of one promoter or publisher another one does all that it wants to: one of them wins. The ordinary
run takes every third request, to a folder; the model cuts requests to a bucket there too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from idc_indexer.errors import IndexerError
from idc_indexer.publish import promote as promote_room
from idc_indexer.publish import publish as publish_room
from idc_indexer.publish.records import PROMOTION, upload_order
from idc_indexer.publish.status import status
from idc_indexer.release.manifest import MANIFEST, Release
from tests.conftest import contents
from tests.emulators.places import Place, Seen
from tests.support.root_files import names_complete_versions, tells_the_truth

pytestmark = pytest.mark.parametrize(
    ("place", "every"),
    [
        ("folder", 3),
        pytest.param("folder", 1, marks=pytest.mark.slow),
        pytest.param("bucket", 1, marks=pytest.mark.slow),  # a minute and a half for each test
    ],
    indirect=["place"],
)

Releases = dict[str, Path]
CURRENT = "current/release_artifacts/"


def publish(place: Place, release: Path) -> None:
    publish_room.publish(release, place.store(), workers=1)


def promote(place: Place, version: str) -> None:
    promote_room.promote(version, place.store(), rollback=True, workers=1)


def below(seen: dict[str, Seen], folder: str) -> dict[str, bytes]:
    return {name.removeprefix(folder): found.content for name, found in seen.items() if name.startswith(folder)}


def is_complete(place: Place, version: str, release: Path) -> None:
    """`current` is that release, and nothing of what was on the way is left."""
    seen = place.look()
    assert below(seen, CURRENT) == contents(release)
    assert {name for name in seen if name.startswith("current/") and not name.startswith(CURRENT)} == {PROMOTION}
    record = json.loads(seen[PROMOTION].content)
    assert (record["release_version"], record["done"]) == (version, True)
    tells_the_truth(seen)
    assert status(place.store()).ok


def is_readable(seen: dict[str, Seen], before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Each file that both releases have is complete, of one of the two, and was written in the right order.

    And no reader learns of a version that is not complete.
    """
    names_complete_versions(seen)
    now = below(seen, CURRENT)
    for name in before.keys() & after.keys():
        assert now[name] in (before[name], after[name]), name
    for name in now:
        assert now[name] in (before.get(name), after.get(name)), name
    if before != after:
        in_order(now, before, after)


def in_order(now: dict[str, bytes], before: dict[str, bytes], after: dict[str, bytes]) -> None:
    written = {name for name, content in now.items() if after.get(name) == content != before.get(name)}
    if MANIFEST in written:
        assert {name: now[name] for name in after} == after
    for name in written:
        phase, table, place = upload_order(name)
        earlier = [
            other for other in after if upload_order(other)[:2] == (phase, table) and upload_order(other)[2] < place
        ]
        assert all(now.get(other) == after[other] for other in earlier), name
    # With one worker, one Parquet at most waits for its sidecar.
    assert len(mismatches(now)) <= 1
    gone = {name for name in before if name not in now}
    if gone:
        assert MANIFEST in written


def mismatches(now: dict[str, bytes]) -> list[str]:
    """The Parquet files whose sidecar, if there is one, has another digest."""
    return [
        name
        for name, content in now.items()
        if f"{name}.sha256" in now and hashlib.sha256(content).hexdigest() != now[f"{name}.sha256"].decode()[:64]
    ]


@pytest.fixture
def ready(place: Place, small_releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Place:
    """25.0.0 is current, and nothing else is there."""
    publish(place, small_releases["25.0.0"])
    promote(place, "25.0.0")
    place.without_faults()
    # They were, and will be, verified often enough.
    monkeypatch.setattr(publish_room, "open_valid", lambda path, _: Release.open(path))
    return place


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_every_request_is_cut_once(ready: Place, small_releases: Releases, late: bool, every: int) -> None:
    new = small_releases["25.0.1"]
    before, after = contents(small_releases["25.0.0"]), contents(new)
    restore = ready.save()
    published = {name: seen for name, seen in ready.look().items() if name.startswith("25.0.0/")}
    cuts, finished = 0, False
    while not finished:
        restore()
        ready.cut(cuts, after=late)
        try:
            publish(ready, new)
            promote(ready, "25.0.1")
            finished = True
        except IndexerError:
            cuts += every
        ready.without_faults()
        is_readable(ready.look(), before, after)
        if not finished:
            found = status(ready.store())
            assert found.promoting or not found.problems
            assert found.current == "25.0.1" if found.promoting else found.current in ("25.0.0", "25.0.1")
        publish(ready, new)
        promote(ready, "25.0.1")
        is_complete(ready, "25.0.1", new)
        assert {name: seen for name, seen in ready.look().items() if name.startswith("25.0.0/")} == published
        assert below(ready.look(), "25.0.1/release_artifacts/") == after
    print(f"{cuts // every} requests cut")
    assert cuts > 40


def test_a_promotion_that_was_cut_is_undone_as_well(ready: Place, small_releases: Releases, every: int) -> None:
    """The way back from each of its requests."""
    publish(ready, small_releases["25.0.1"])
    before, after = contents(small_releases["25.0.0"]), contents(small_releases["25.0.1"])
    restore = ready.save()
    cuts, finished = 0, False
    while not finished:
        restore()
        ready.cut(cuts, after=bool(cuts % 2))
        try:
            promote(ready, "25.0.1")
            finished = True
        except IndexerError:
            cuts += every
        ready.without_faults()
        is_readable(ready.look(), before, after)
        promote(ready, "25.0.0")
        is_complete(ready, "25.0.0", small_releases["25.0.0"])
    print(f"{cuts // every} promotions cut and undone")
    assert cuts > 20


@pytest.mark.parametrize(
    "others",
    [
        ("25.1.0",),
        ("25.0.1",),
        pytest.param(("25.0.0",), marks=pytest.mark.slow),
        pytest.param(("25.1.0", "25.0.0"), marks=pytest.mark.slow),
    ],
    ids="+".join,
)
def test_two_promoters_make_no_mix(ready: Place, small_releases: Releases, others: tuple[str, ...], every: int) -> None:
    """While one waits before a request, others promote another version to its end; then the first one continues."""
    for version in ("25.0.1", "25.1.0"):
        publish(ready, small_releases[version])
    restore = ready.save()
    number, lost = 0, 0
    found: list[bool] = [True]
    while found:
        restore()
        found = []

        def act(found: list[bool] = found) -> None:
            now = status(ready.store())
            # The root files may be yet to be written.
            found.append(now.current == "25.0.1" and not (now.promoting or now.problems))
            for version in others:
                promote(ready, version)

        ready.between(number, act)
        said = attempt(lambda: promote(ready, "25.0.1"))
        # One that was at its end when the others began has won, and they have followed.
        winner = others[-1] if said or any(found) else "25.0.1"
        assert not said or f"the promotion of {winner} won" in said
        lost += bool(said)
        ready.without_faults()
        assert below(ready.look(), CURRENT) == contents(small_releases[winner]), number
        assert status(ready.store()).ok
        tells_the_truth(ready.look())
        number += every
    print(f"{number // every} requests interrupted by another promoter, who won {lost} times")
    assert number > 20
    assert bool(lost) == (others[-1] != "25.0.1")


def test_two_publishers_make_no_mix(ready: Place, small_releases: Releases, every: int) -> None:
    """While one waits with a request, another publishes a different release of the same version."""
    restore = ready.save()
    number, won, told = 0, {"25.0.1": 0, "other": 0}, [""]
    while told:
        restore()
        told = []
        ready.between(number, lambda told=told: told.append(attempt(lambda: publish(ready, small_releases["other"]))))  # type: ignore[misc]
        said = attempt(lambda: publish(ready, small_releases["25.0.1"]))
        winner = "other" if said else "25.0.1"
        for loser in filter(None, [said, *told]):
            assert "another release is" in loser
            assert "won" in loser
        assert not told or bool(said) != bool(told[0])
        assert below(ready.look(), "25.0.1/release_artifacts/") == contents(small_releases[winner])
        won[winner] += 1
        tells_the_truth(ready.look())
        number += every
    print(f"{number // every} requests interrupted by another publisher: {won}")
    assert min(won.values()) > 0


def attempt(act: Callable[[], object]) -> str:
    """What a command says that gives up; nothing when it does not."""
    try:
        act()
    except IndexerError as error:
        return error.message
    return ""

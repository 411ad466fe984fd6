"""Every request of a publication and a promotion is cut once, before it is done and after: the same command completes it.

And at every request of one promoter or publisher another one does all that it wants to: one of them wins.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idc_indexer import promote as promote_room
from idc_indexer import publish as publish_room
from idc_indexer.errors import IndexerError
from idc_indexer.published import PROMOTION
from idc_indexer.release import MANIFEST
from idc_indexer.status import status
from tests.conftest import contents
from tests.peers.places import Place, Seen

Releases = dict[str, Path]
CURRENT = "current/release_artifacts/"


def publish(place: Place, release: Path) -> None:
    publish_room.publish(release, place.store(), workers=1)


def promote(place: Place, version: str) -> None:
    promote_room.promote(version, place.store(), rollback=True, workers=1)


def below(seen: dict[str, Seen], folder: str) -> dict[str, bytes]:
    return {name.removeprefix(folder): found.content for name, found in seen.items() if name.startswith(folder)}


def is_whole(place: Place, version: str, release: Path) -> None:
    """`current` is that release, and nothing of what was on the way is left."""
    seen = place.look()
    assert below(seen, CURRENT) == contents(release)
    assert {name for name in seen if name.startswith("current/") and not name.startswith(CURRENT)} == {PROMOTION}
    record = json.loads(seen[PROMOTION].content)
    assert (record["release_version"], record["done"]) == (version, True)
    assert status(place.store()).whole


def is_readable(seen: dict[str, Seen], before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Each file that both releases have is there, whole, of one of the two; and what it depends on came before it."""
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
    if any(name.endswith(".sha256") for name in written):
        assert all(now.get(name) == content for name, content in after.items() if name.endswith(".parquet"))
    gone = {name for name in before if name not in now}
    if gone:
        assert MANIFEST in written


def renew(place: Place, small_releases: Releases) -> None:
    """25.0.0 is current, and nothing else is there."""
    place.calm()
    for name in place.look():
        place.remove(name)
    publish(place, small_releases["25.0.0"])
    promote(place, "25.0.0")
    place.calm()


def test_every_request_is_cut_once(place: Place, small_releases: Releases) -> None:
    new = small_releases["25.0.1"]
    before, after = contents(small_releases["25.0.0"]), contents(new)
    cuts = {False: 0, True: 0}
    for late in cuts:
        finished = False
        while not finished:
            renew(place, small_releases)
            published = {name: seen for name, seen in place.look().items() if name.startswith("25.0.0/")}
            place.cut(cuts[late], after=late)
            try:
                publish(place, new)
                promote(place, "25.0.1")
                finished = True
            except IndexerError:
                cuts[late] += 1
            place.calm()
            is_readable(place.look(), before, after)
            if not finished:
                found = status(place.store())
                assert found.current == "25.0.1" if found.promoting else found.current in ("25.0.0", "25.0.1")
                assert found.promoting or not found.problems
            publish(place, new)
            promote(place, "25.0.1")
            is_whole(place, "25.0.1", new)
            assert {name: seen for name, seen in place.look().items() if name.startswith("25.0.0/")} == published
            assert below(place.look(), "25.0.1/release_artifacts/") == after
    print(f"cut before: {cuts[False]} requests, after: {cuts[True]}")
    assert min(cuts.values()) > 40


def test_a_promotion_that_was_cut_is_undone_as_well(place: Place, small_releases: Releases) -> None:
    """The way back from each of its requests."""
    renew(place, small_releases)
    publish(place, small_releases["25.0.1"])
    before, after = contents(small_releases["25.0.0"]), contents(small_releases["25.0.1"])
    cuts, finished = 0, False
    while not finished:
        place.calm()
        place.cut(cuts, after=bool(cuts % 2))
        try:
            promote(place, "25.0.1")
            finished = True
        except IndexerError:
            cuts += 1
        place.calm()
        is_readable(place.look(), before, after)
        promote(place, "25.0.0")
        is_whole(place, "25.0.0", small_releases["25.0.0"])
    print(f"{cuts} promotions cut and undone")
    assert cuts > 20


@pytest.mark.parametrize("others", [("25.1.0",), ("25.0.0",), ("25.0.1",), ("25.1.0", "25.0.0")], ids="+".join)
def test_two_promoters_make_no_mix(place: Place, small_releases: Releases, others: tuple[str, ...]) -> None:
    """While one waits with a request, others promote all of another version; then it goes on."""
    renew(place, small_releases)
    publish(place, small_releases["25.0.1"])
    publish(place, small_releases["25.1.0"])
    number, lost, acted = 0, 0, True
    while acted:
        place.calm()
        promote(place, "25.0.0")
        place.calm()
        acted = False

        def act() -> None:
            nonlocal acted
            acted = True
            for version in others:
                promote(place, version)

        place.between(number, act)
        winner = "25.0.1"
        try:
            promote(place, "25.0.1")
        except IndexerError as error:
            lost += 1
            winner = others[-1]
            assert f"the promotion of {winner} won" in error.message
        place.calm()
        seen = place.look()
        assert below(seen, CURRENT) == contents(small_releases[winner]), number
        assert status(place.store()).whole
        number += 1
    print(f"{number - 1} requests interrupted by another promoter, who won {lost} times")
    assert number > 20
    assert lost if others[-1] != "25.0.1" else not lost


def test_two_publishers_make_no_mix(place: Place, small_releases: Releases) -> None:
    """While one waits with a request, another publishes a different release of the same version."""
    number, won, acted = 0, {"25.0.1": 0, "other": 0}, True
    while acted:
        place.calm()
        for name in place.look():
            place.remove(name)
        acted = False
        refused = []

        def publish_as(name: str) -> None:
            try:
                publish(place, small_releases[name])
                won[name] += 1
            except IndexerError as error:
                assert "another release" in error.message
                assert "won" in error.message
                refused.append(name)

        def act() -> None:
            nonlocal acted
            acted = True
            publish_as("other")

        place.calm()
        place.between(number, act)
        publish_as("25.0.1")
        place.calm()
        assert len(refused) == (1 if acted else 0)
        winner = "25.0.1" if "other" in refused or not acted else "other"
        assert below(place.look(), "25.0.1/release_artifacts/") == contents(small_releases[winner])
        number += 1
    print(f"{number - 1} requests interrupted by another publisher: {won}")
    assert min(won.values()) > 0

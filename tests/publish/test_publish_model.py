"""Publishing as a model: any sequence of commands, deaths, faults, other writers and vandals.

After every step, published versions have not changed, `current` has a complete copy of every file that the versions
in question share, and `versions.json` names complete versions only. After every command that ended well, it tells the
truth. Whenever nothing interferes, the same commands complete everything. The ordinary run has
few examples; IDC_INDEXER_TEST_EXAMPLES sets another number.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish import promote as promote_room
from idc_indexer.publish import publish as publish_room
from idc_indexer.publish.records import PROMOTION
from idc_indexer.publish.status import status
from idc_indexer.release.manifest import Release
from tests.conftest import contents
from tests.emulators.gcs import FAULTS, Gcs
from tests.emulators.places import BucketPlace, FolderPlace, Place, Seen
from tests.support.root_files import ROOT, names_complete_versions, tells_the_truth

RELEASES = ("25.0.0", "25.0.1", "25.1.0")
CURRENT = "current/release_artifacts/"
STAGED = "current/staged/"
EXAMPLES = int(os.environ.get("IDC_INDEXER_TEST_EXAMPLES", "12"))
STEPS = 12
DONE: Counter[str] = Counter()

versions = st.sampled_from(RELEASES)
numbers = st.integers(0, 45)


class Publishing(RuleBasedStateMachine):
    """All that can happen to a store. `place` and `releases` are set before it runs."""

    place: Place
    releases: dict[str, Path]

    def __init__(self) -> None:
        super().__init__()
        self.files = {name: contents(path) for name, path in self.releases.items()}
        # What `current` may consist of: the version that it was when it was last complete, and those begun since.
        self.possible: set[str] = set()
        self.published: dict[str, Seen] = {}
        self.vandalised = False

    @initialize()
    def begin(self) -> None:
        self.place.without_faults()
        for name in self.place.look():
            self.place.remove(name)

    # --- Commands -------------------------------------------------------------------------------------------

    @rule(version=versions)
    def publish(self, version: str) -> None:
        self.perform(version, "publish")

    @rule(version=versions)
    def promote(self, version: str) -> None:
        self.perform(version, "promote")

    @rule(version=versions)
    def roll_forward_only(self, version: str) -> None:
        before = self.place.look()
        try:
            promote_room.promote(version, self.place.store(), workers=1)
            self.possible = {version}
            tells_the_truth(self.place.look())
        except UsageError:
            assert self.place.look() == before
        except IndexerError:
            assert self.vandalised or not self.is_published(version)

    @rule(version=versions, command=st.sampled_from(["publish", "promote"]), number=numbers, after=st.booleans())
    def die(self, version: str, command: str, number: int, after: bool) -> None:
        self.place.without_faults()
        self.place.cut(number, after)
        self.perform(version, command, may_fail=True)

    @rule(
        version=versions,
        command=st.sampled_from(["publish", "promote"]),
        number=numbers,
        fault=st.sampled_from(FAULTS),
    )
    def fail_in_passing(self, version: str, command: str, number: int, fault: str) -> None:
        if isinstance(self.place, BucketPlace):
            self.place.without_faults()
            self.place.fail(number, fault)
        self.perform(version, command)

    @rule(version=versions, other=versions, number=numbers, command=st.sampled_from(["publish", "promote"]))
    def write_between(self, version: str, other: str, number: int, command: str) -> None:
        """Another promoter, or another publisher, has its turn while this one waits."""
        self.place.without_faults()
        self.place.between(number, lambda: self.perform(other, command, may_fail=True))
        self.perform(version, command, may_fail=True)
        found = status(self.place.store())
        if command == "promote" and found.ok:
            # The other may have begun when this one had done all and was looking for the last time.
            assert found.current is not None
            assert not self.possible or found.current in {version, other} | self.possible
            self.possible = {found.current}

    @rule()
    def publish_another_release(self) -> None:
        """It has the version of one that is, or is being, published; or is refused later."""
        if "25.0.1/publication.json" in self.place.look():
            before = self.place.look()
            try:
                publish_room.publish(self.releases["other"], self.place.store(), workers=1)
            except IndexerError:
                assert self.place.look() == before
            else:
                raise AssertionError("two releases of one version")

    # --- Vandals --------------------------------------------------------------------------------------------

    @rule(number=numbers, remove=st.booleans())
    def spoil_what_changes(self, number: int, remove: bool) -> None:
        # Nobody reads staged objects: status says nothing of those that a promotion left that has lost.
        # If a promotion is under way, it says nothing of the root files.
        spoilt = ("current/", *ROOT)
        names = [name for name in self.place.look() if name.startswith(spoilt) and not name.startswith(STAGED)]
        if names:
            names.sort()
            name = names[number % len(names)]
            if remove:
                self.place.remove(name)
            else:
                self.place.write(name, b"spoilt")
            self.vandalised |= name not in ROOT
            DONE["spoilt"] += 1
            found = status(self.place.store())
            # Without its record, `current` may still be equal to a version.
            assert not found.ok or (name, remove, found.recorded) == (PROMOTION, True, False), name

    @rule(number=numbers)
    def remove_published(self, number: int) -> None:
        names = sorted(name for name in self.place.look() if name.split("/")[0] in RELEASES)
        if names:
            name = names[number % len(names)]
            version = name.split("/")[0]
            self.place.remove(name)
            self.published.pop(name, None)
            DONE["spoilt"] += 1
            # As the one who finds it does.
            self.perform(version, "publish")

    # --- What holds -----------------------------------------------------------------------------------------

    @rule(version=versions)
    def finish(self, version: str) -> None:
        """Nothing interferes: the same commands complete everything."""
        self.perform(version, "publish")
        self.perform(version, "promote")
        self.vandalised = False
        seen = self.place.look()
        assert below(seen, CURRENT) == self.files[version]
        assert {name for name in seen if name.startswith("current/") and not name.startswith(CURRENT)} == {PROMOTION}
        tells_the_truth(seen)
        found = status(self.place.store())
        assert found.ok, found
        assert found.current == version

    @invariant()
    def published_objects_never_change(self) -> None:
        seen = self.place.look()
        assert {name: seen.get(name) for name in self.published} == self.published
        new = {name: found for name, found in seen.items() if name.split("/")[0] in RELEASES}
        for name, found in new.items():
            version, _, file = name.partition("/release_artifacts/")
            assert not file or found.content == self.files[version][file]
        self.published |= new
        names_complete_versions(seen)

    @invariant()
    def current_has_what_all_its_versions_have(self) -> None:
        if not self.vandalised and self.possible:
            now = below(self.place.look(), CURRENT)
            choices = [self.files[version] for version in self.possible]
            for name in set.intersection(*(set(files) for files in choices)):
                assert now[name] in [files[name] for files in choices], name
            for name, content in now.items():
                assert content in [files[name] for files in choices if name in files], name

    # --- Helpers --------------------------------------------------------------------------------------------

    def is_published(self, version: str) -> bool:
        folder = f"{version}/release_artifacts/"
        seen = self.place.look()
        return below(seen, folder) == self.files[version] and f"{version}/publication.json" in seen

    def perform(self, version: str, command: str, may_fail: bool = False) -> None:
        """Run a command, and note the states that are possible after it."""
        DONE[command] += 1
        store = self.place.store()
        allowed = may_fail or (command == "promote" and not self.is_published(version))
        try:
            if command == "publish":
                publish_room.publish(self.releases[version], store, workers=1)
            else:
                if self.possible or self.is_published(version):
                    self.begun(version)
                promote_room.promote(version, store, rollback=True, replace_unrecorded=True, workers=1)
                self.possible = {version}
                self.vandalised = False
            tells_the_truth(self.place.look())
        except IndexerError:
            DONE["given up"] += 1
            assert allowed
        finally:
            self.place.without_faults()

    def begun(self, version: str) -> None:
        if self.possible:
            self.possible.add(version)


def below(seen: dict[str, Seen], folder: str) -> dict[str, bytes]:
    return {name.removeprefix(folder): found.content for name, found in seen.items() if name.startswith(folder)}


def run(place: Place, releases: dict[str, Path], examples: int) -> None:
    """Run the model on a place, and say what was done."""
    DONE.clear()
    machine: Any = type("Machine", (Publishing,), {"place": place, "releases": releases})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            # To make a failing example smaller takes minutes.
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(dict(DONE))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The releases are verified by other tests, and no test takes the power away."""
    monkeypatch.setattr(publish_room, "open_valid", lambda path, _: Release.open(path))
    monkeypatch.setattr("os.fsync", lambda _: None)
    return iter(())


@pytest.mark.usefixtures("quick")
def test_a_folder(small_releases: dict[str, Path]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        run(FolderPlace(folder), small_releases, EXAMPLES)
    finally:
        shutil.rmtree(folder)
    assert DONE["publish"] > EXAMPLES
    assert DONE["given up"] > 0


@pytest.mark.usefixtures("quick")
def test_a_bucket(small_releases: dict[str, Path], gcs_service: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    run(BucketPlace(gcs_service, monkeypatch), small_releases, EXAMPLES)
    assert DONE["publish"] > EXAMPLES
    assert DONE["given up"] > 0

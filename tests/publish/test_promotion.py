"""`decide`: for any state of `current`, the next decision is allowed, and the decisions come to an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.promotion import Decision, Done, Finish, State, WriteObjects, WriteRecord, decide
from idc_indexer.publish.records import CURRENT, NO_CACHE, PROMOTION, Promotion, Publication
from idc_indexer.publish.stores import ABSENT, Headers, StoredObject
from idc_indexer.release.manifest import MANIFEST, FileEntry, folder

OLD, NEW = "25.0.0", "25.1.0"
OWN, OTHER = "0" * 16, "1" * 16
NAMES = ("a.parquet", "a.parquet.sha256", "a.sql", "b.parquet", MANIFEST)
ARTIFACTS = folder(CURRENT)
Listing = dict[str, StoredObject]


def published(version: str, contents: Mapping[str, int]) -> Publication:
    """A version whose files have the given contents, each a number."""
    files = tuple(FileEntry(name, content, f"{content:064}") for name, content in contents.items())
    return Publication(25, version, files, {name: f"crc32c:{content}" for name, content in contents.items()})


def stored(name: str, content: int, generation: int, publication: Publication | None = None) -> StoredObject:
    """An object; with the right headers if it is a file of a publication."""
    headers = None
    for file in publication.files if publication else ():
        if file.name == name.rpartition("/")[2]:
            headers = publication.headers(file, NO_CACHE) if publication else None
    return StoredObject(name, content, f"crc32c:{content}", generation, headers)


def source_of(publication: Publication) -> Listing:
    names = {folder(publication.release_version) + file.name: file for file in publication.files}
    return {name: stored(name, file.bytes, number) for number, (name, file) in enumerate(names.items(), 1)}


contents = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), min_size=1)
records = st.none() | st.builds(
    Promotion,
    st.sampled_from([OWN, OTHER]),
    st.sampled_from([OLD, NEW]),
    st.booleans(),
    st.none() | st.dictionaries(st.sampled_from([ARTIFACTS + name for name in NAMES]), st.integers(1, 9)),
)
staged_names = st.builds("current/staged/{}/{}".format, st.sampled_from([OWN, OTHER]), st.sampled_from(NAMES))


@st.composite
def states(draw: st.DrawFn) -> State:
    publication = published(draw(st.sampled_from([OLD, NEW])), draw(contents))
    record = draw(records)
    names = draw(st.dictionaries(st.sampled_from([ARTIFACTS + name for name in NAMES]), st.integers(1, 3)))
    names |= draw(st.dictionaries(staged_names, st.integers(1, 3), max_size=3))
    generations = draw(st.permutations(range(1, 10)))
    listing = {
        name: stored(name, content, generations[i], publication) for i, (name, content) in enumerate(names.items())
    }
    if record:
        listing[PROMOTION] = stored(PROMOTION, 1, 10)
    return State(
        "store",
        publication,
        record,
        source_of(publication),
        listing,
        draw(st.sampled_from([None, OWN])),
        "2" * 16,
        rollback=True,
        replace_unrecorded=True,
    )


def after(state: State, decision: Decision, clock: int) -> State:
    """The state that a store has when nothing interferes. Every precondition is checked."""
    listing, record = dict(state.listing), state.record
    if isinstance(decision, WriteObjects):
        for copy in decision.copies:
            assert {**state.source, **listing}[copy.source.name] == copy.source
            assert (listing[copy.name].generation if copy.name in listing else ABSENT) == copy.generation
            clock += 1
            listing[copy.name] = stored(copy.name, copy.source.bytes, clock, state.publication)
    if isinstance(decision, WriteObjects | Finish):
        for found in decision.removals:
            assert listing.pop(found.name) == found
    if isinstance(decision, WriteRecord | Finish):
        assert decision.replaces == (listing[PROMOTION].generation if PROMOTION in listing else ABSENT)
        listing[PROMOTION] = stored(PROMOTION, 1, clock + 1)
        record = decision.record
    assert not isinstance(decision, Done)
    return replace(state, listing=listing, record=record, own=decision.record.id)


def run(state: State) -> list[tuple[State, Decision]]:
    """All decisions until `current` is the version, each with the state that it was made in."""
    made = []
    for turn in range(9):
        decision = decide(state)
        made.append((state, decision))
        if isinstance(decision, Done):
            return made
        state = after(state, decision, 100 * (turn + 1))
    raise AssertionError(made)


@given(states())
def test_a_promotion_ends_with_the_version(state: State) -> None:
    lost = state.record is not None and state.own not in (None, state.record.id)
    try:
        made = run(state)
    except IndexerError:
        assert lost
        return
    last, _ = made[-1]
    assert last.record
    assert (last.record.release_version, last.record.done) == (state.version, True)
    assert {name: found.bytes for name, found in last.artifacts.items()} == {
        name: file.bytes for name, file in state.files.items()
    }
    assert not last.staged
    assert last.listing.keys() == {PROMOTION, *state.files}


@given(states())
def test_files_that_no_record_explains_are_not_lost(state: State) -> None:
    listing = {name: found for name, found in state.listing.items() if name != PROMOTION}
    bare = replace(state, record=None, own=None, listing=listing, replace_unrecorded=False)
    if all(
        name in bare.files and bare.publication.same_content(bare.files[name], found)
        for name, found in bare.artifacts.items()
    ):
        assert isinstance(decide(bare), WriteRecord)
    else:
        with pytest.raises(UsageError, match="no record explains"):
            decide(bare)
    assert isinstance(decide(replace(bare, explained_by=OLD)), WriteRecord)
    assert isinstance(decide(replace(bare, replace_unrecorded=True)), WriteRecord)
    newer = replace(bare, explained_by="99.0.0", rollback=False)
    with pytest.raises(UsageError, match="is older than 99"):
        decide(newer)


@given(states())
def test_what_readers_see_changes_only_under_an_own_record(state: State) -> None:
    try:
        made = run(state)
    except IndexerError:
        return
    for before, decision in made:
        if not isinstance(decision, WriteObjects) or not decision.copies:
            continue
        assert before.record
        assert not before.record.done
        assert before.record.force_rewrite is not None
        assert before.record.release_version == state.version
        for copy in decision.copies:
            visible = copy.name.startswith(ARTIFACTS)
            if visible and copy.generation == ABSENT:
                assert copy.source.name == f"current/staged/{before.record.id}/{copy.file.name}"
            else:
                assert copy.source.name == folder(state.version) + copy.file.name


@given(states())
def test_who_takes_over_leaves_no_listed_generation(state: State) -> None:
    """A write that another promotion has under way then finds no object that it expects."""
    taken_over = state.record is None or not (state.record.done or state.record.release_version == state.version)
    try:
        made = run(state)
    except IndexerError:
        return
    last, _ = made[-1]
    if taken_over:
        assert not {found.generation for found in state.artifacts.values()} & set(last.generations.values())
    else:
        # Nothing is written again that is right.
        forced = (state.record.force_rewrite or {}) if state.record and not state.record.done else {}
        if state.record and state.record.force_rewrite is None and not state.record.done:
            forced = state.generations
        for name, found in state.artifacts.items():
            right = name in state.files and not state.publication.problem(state.files[name], found, NO_CACHE)
            if right and forced.get(name) != found.generation:
                assert last.generations[name] == found.generation


@given(states())
def test_deciding_twice_is_deciding_once(state: State) -> None:
    try:
        assert decide(state) == decide(replace(state))
    except IndexerError:
        with pytest.raises(IndexerError):
            decide(state)


CONTENTS = {"a.parquet": 1, MANIFEST: 2}


def current(content: Mapping[str, int], record: Promotion | None, **arguments: object) -> State:
    publication = published(NEW, CONTENTS)
    listing = {
        ARTIFACTS + name: stored(ARTIFACTS + name, value, number, publication)
        for number, (name, value) in enumerate(content.items(), 1)
    }
    if record:
        listing[PROMOTION] = stored(PROMOTION, 1, 9)
    state = State("store", publication, record, source_of(publication), listing, new_id="2" * 16)
    return replace(state, **arguments)  # type: ignore[arg-type]  # each test names fields of it


def test_the_first_promotion_begins() -> None:
    begun = Promotion("2" * 16, NEW, force_rewrite=None)
    assert decide(current({}, None)) == WriteRecord(begun, ABSENT)


def test_a_promotion_after_a_finished_one_rewrites_nothing() -> None:
    state = current({"a.parquet": 1, MANIFEST: 1}, Promotion(OTHER, OLD, done=True))
    assert decide(state) == WriteRecord(Promotion("2" * 16, NEW, force_rewrite={}), 9)
    assert [step.action for step in state.steps] == ["keep", "replace"]


def test_a_promotion_that_takes_over_rewrites_all() -> None:
    state = current(CONTENTS, Promotion(OTHER, OLD))
    assert decide(state) == WriteRecord(Promotion("2" * 16, NEW, force_rewrite=None), 9)
    begun = current(CONTENTS, Promotion(OWN, NEW, force_rewrite=None), own=OWN)
    assert decide(begun) == WriteRecord(Promotion(OWN, NEW, force_rewrite=begun.generations), 9)
    assert [step.action for step in begun.steps] == ["replace", "replace"]


def test_an_unfinished_promotion_of_the_same_version_is_joined() -> None:
    assert decide(current(CONTENTS, Promotion(OTHER, NEW))) == Finish(Promotion(OTHER, NEW, done=True), 9, ())
    joined = decide(current(CONTENTS, Promotion(OTHER, NEW), own=OWN))
    assert joined == Finish(Promotion(OTHER, NEW, done=True), 9, ())


def test_the_later_promotion_wins() -> None:
    for done in (False, True):
        with pytest.raises(IndexerError, match=f"store: the promotion of {OLD} won"):
            decide(current(CONTENTS, Promotion(OTHER, OLD, done=done), own=OWN))


def test_the_way_back_needs_rollback() -> None:
    for done, verb in ((False, "becomes"), (True, "is")):
        state = current(CONTENTS, Promotion(OTHER, "26.0.0", done=done))
        with pytest.raises(UsageError, match=f"older than 26.0.0, which current {verb}"):
            decide(state)
        assert isinstance(decide(replace(state, rollback=True)), WriteRecord)


def test_equal_is_done() -> None:
    assert decide(current(CONTENTS, Promotion(OTHER, NEW, done=True))) == Done()


def test_what_a_losing_promotion_staged_late_is_removed() -> None:
    """The winner had finished before."""
    late = stored(f"current/staged/{OWN}/a.parquet", 1, 7)
    record = Promotion(OTHER, NEW, done=True)
    state = current(CONTENTS, record)
    state = replace(state, listing={**state.listing, late.name: late})
    assert decide(state) == WriteObjects(record, removals=(late,))


def test_a_new_file_is_staged_before_it_appears() -> None:
    record = Promotion(OWN, NEW)
    state = current({"a.parquet": 1}, record, own=OWN)
    staging = decide(state)
    assert isinstance(staging, WriteObjects)
    (copy,) = staging.copies
    assert (copy.name, copy.source.name) == (f"current/staged/{OWN}/{MANIFEST}", folder(NEW) + MANIFEST)
    writing = decide(after(state, staging, 100))
    assert isinstance(writing, WriteObjects)
    (copy,) = writing.copies
    assert (copy.name, copy.generation, copy.source.name) == (
        ARTIFACTS + MANIFEST,
        ABSENT,
        f"current/staged/{OWN}/{MANIFEST}",
    )


def test_a_value_that_the_store_does_not_keep_is_named() -> None:
    """After one more write: the store may be at fault for ever, and another program once."""
    record = Promotion(OWN, NEW)
    state = current({"a.parquet": 1, MANIFEST: 2}, record, own=OWN)
    name = ARTIFACTS + MANIFEST
    other = replace(state.listing[name], headers=Headers("text/plain", NO_CACHE, {}), generation=7)
    state = replace(state, listing={**state.listing, name: other})
    for written in ({}, {name: (7, 1)}, {name: (6, 2)}):
        decision = decide(replace(state, written=written))
        assert isinstance(decision, WriteObjects)
        assert [copy.name for copy in decision.copies] == [name]
    with pytest.raises(
        IndexerError, match=f"store/{name} has Content-Type 'text/plain', not 'application/json', although"
    ):
        decide(replace(state, written={name: (7, 2)}))


def test_only_own_headers_are_compared() -> None:
    record = Promotion(OTHER, NEW, done=True)
    state = current(CONTENTS, record)
    listing = dict(state.listing)
    for name, found in state.artifacts.items():
        assert found.headers
        metadata = {**found.headers.metadata, "x_emulator_upload": "multipart", "release_version": OLD}
        listing[name] = replace(found, headers=replace(found.headers, metadata=metadata))
    assert decide(replace(state, listing=listing)) == Done()
    name = ARTIFACTS + "a.parquet"
    assert state.listing[name].headers
    listing[name] = replace(state.listing[name], headers=Headers("text/plain", NO_CACHE, {"sha256": "1"}))
    assert isinstance(decide(replace(state, listing=listing)), WriteRecord)

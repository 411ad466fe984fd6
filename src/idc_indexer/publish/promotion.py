"""The decisions of a promotion: `decide` looks at one listing of `current` and returns the next decision.

Everything here is pure: no request, no clock, no random number. `promote` carries the decisions out. A promotion
replaces objects one by one: each Parquet and at once its sidecar, its schema and its query; then the manifest. At the
end it removes the files that the version does not have. It leaves objects alone that are right, so their ETag stays.

If two promotions run at once, the later one wins and the other stops with an error. A promotion that has lost may
still have one write under way. Two rules make that write fail:

- Each write and each removal of an existing object requires the generation that was listed. A promotion that takes
  over from an unfinished promotion of another version, or finds no record, rewrites every object, even an unchanged
  one, so that no listed generation remains.
- A name that `current` does not have is first copied to `current/staged/<id>/`, and from there to its place after
  another look at the record. A promotion that takes over first removes what others put there, so that their last
  copy finds no source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from packaging.version import Version

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.records import CURRENT, NO_CACHE, PROMOTION, Promotion, Publication, Step, artifacts
from idc_indexer.publish.stores import ABSENT, StoredObject
from idc_indexer.release.manifest import FileEntry, folder

_STAGED = f"{CURRENT}/staged/"
_MAX_WRITES = 2


@dataclass(frozen=True)
class State:
    """Everything that a decision depends on.

    Attributes:
        uri: of the store, for messages.
        publication: of the version to promote, which is complete.
        record: the current record; None if there is none, or none that is valid.
        source: all objects below the folder of the version, by name.
        listing: all objects below `current/`, by name.
        own: id of the promotion that this command has begun or joined; None before that.
        new_id: id for a promotion that has yet to begin.
        written: for each object that this command wrote, the generation and the number of writes up to it.
        rollback: whether `current` may move back to an older version.
        explained_by: a recorded version whose files `current` has although it has no record; None if there is none.
        replace_unrecorded: whether files of `current` that no record explains may be replaced.
    """

    uri: str
    publication: Publication
    record: Promotion | None
    source: Mapping[str, StoredObject]
    listing: Mapping[str, StoredObject]
    own: str | None = None
    new_id: str = ""
    written: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rollback: bool = False
    explained_by: str | None = None
    replace_unrecorded: bool = False

    @property
    def version(self) -> str:
        """The version to promote."""
        return self.publication.release_version

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """One step for each file of the version, in the order of writing, then one for each file to remove."""
        force_rewrite = self._force_rewrite
        steps = []
        for name, file in self.files.items():
            found = self.listing.get(name)
            if found is None:
                steps.append(Step("create", name, file.bytes))
            elif self.publication.problem(file, found, NO_CACHE) or force_rewrite.get(name) == found.generation:
                steps.append(Step("replace", name, file.bytes, found.generation))
            else:
                steps.append(Step("keep", name, file.bytes, found.generation))
        strays = [found for name, found in sorted(self.artifacts.items()) if name not in self.files]
        return (*steps, *(Step("remove", found.name, found.bytes, found.generation) for found in strays))

    @property
    def work(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.action != "keep")

    @cached_property
    def files(self) -> dict[str, FileEntry]:
        """The files of the version by their name in `current`."""
        return {folder(CURRENT) + file.name: file for file in self.publication.files}

    def copy(self, name: str, target: str, generation: int) -> Copy:
        """The copy of a published file, by its name in `current`, to a target."""
        file = self.files[name]
        return Copy(file, self.source[folder(self.version) + file.name], target, generation)

    @property
    def artifacts(self) -> dict[str, StoredObject]:
        """The listed objects that readers see."""
        return artifacts(self.listing, CURRENT)

    @property
    def unexplained(self) -> bool:
        """Whether `current` has no record, and files that no record of a version lists: they would be lost."""
        explained = self.explained_by or all(
            name in self.files and self.publication.same_content(self.files[name], found)
            for name, found in self.artifacts.items()
        )
        return self.record is None and not explained

    @property
    def staged(self) -> tuple[StoredObject, ...]:
        """The listed objects that wait for their place."""
        return tuple(found for name, found in self.listing.items() if name.startswith(_STAGED))

    @property
    def generations(self) -> dict[str, int]:
        """The listed generation of each object that readers see."""
        return {name: found.generation for name, found in self.artifacts.items()}

    @property
    def _force_rewrite(self) -> Mapping[str, int]:
        if self.record and self.record.done:
            return {}
        if self.record and self.record.release_version == self.version and self.record.force_rewrite is not None:
            return self.record.force_rewrite
        return self.generations


@dataclass(frozen=True)
class Done:
    """`current` equals the version, and the record says so."""


@dataclass(frozen=True)
class WriteRecord:
    """Begin a promotion, or note in its record what it must rewrite."""

    record: Promotion
    replaces: int


@dataclass(frozen=True)
class Copy:
    """A copy that the store makes: `generation` is at the target, or `ABSENT`."""

    file: FileEntry
    source: StoredObject
    name: str
    generation: int


@dataclass(frozen=True)
class WriteObjects:
    """Copy files in the order of writing, then remove objects."""

    record: Promotion
    copies: tuple[Copy, ...] = ()
    removals: tuple[StoredObject, ...] = ()


@dataclass(frozen=True)
class Finish:
    """Remove the staged objects, then write the record of a finished promotion."""

    record: Promotion
    replaces: int
    removals: tuple[StoredObject, ...]


Decision = Done | WriteRecord | WriteObjects | Finish


def decide(state: State) -> Decision:
    """The next decision of a promotion.

    Raises:
        UsageError: `current` is, or becomes, a newer version, and `rollback` is not set; or no record explains its
            files, and `replace_unrecorded` is not set.
        IndexerError: another promotion has taken over; or the store does not keep what is written.
    """
    record = state.record
    if state.own is None:
        _refuse_loss(state)
    if record is None:
        return _begin(state, force_rewrite=None)
    if record.done and record.release_version == state.version and not state.work:
        # A promotion that lost may have staged an object after the winner had finished.
        return WriteObjects(record, removals=state.staged) if state.staged else Done()
    joined = not record.done and record.release_version == state.version
    if not joined and state.own not in (None, record.id):
        raise IndexerError(
            f"{state.uri}: the promotion of {record.release_version} won: it began after this one of {state.version}",
            f"To make {state.version} current, promote it again.",
        )
    if not joined:
        return _begin(state, force_rewrite={} if record.done else None)
    if record.force_rewrite is None:
        # Every generation that others listed before they saw this record is in this listing, or gone.
        return WriteRecord(replace(record, force_rewrite=state.generations), _generation(state))
    if state.work:
        return _writes(state, record)
    return Finish(replace(record, done=True, force_rewrite={}), _generation(state), state.staged)


def _refuse_loss(state: State) -> None:
    """Raise UsageError if the promotion would do what the caller has to ask for."""
    present = state.record.release_version if state.record else state.explained_by
    if present and not state.rollback and Version(state.version) < Version(present):
        becomes = state.record and not state.record.done
        raise UsageError(
            f"{state.version} is older than {present}, which current {'becomes' if becomes else 'is'}",
            "Give --rollback to move back to the older version.",
        )
    if state.unexplained and not state.replace_unrecorded:
        raise UsageError(
            f"{state.uri}/{folder(CURRENT)} has {len(state.artifacts)} files that no record explains: if "
            f"{state.version} replaced them, no command could bring them back",
            "Adopt the version that these files are of: `idc-indexer status` names it, and `idc-indexer adopt VERSION` "
            "records it. To lose them, give --replace-unrecorded.",
        )


def _begin(state: State, force_rewrite: Mapping[str, int] | None) -> WriteRecord:
    return WriteRecord(Promotion(state.new_id, state.version, force_rewrite=force_rewrite), _generation(state))


def _writes(state: State, record: Promotion) -> WriteObjects:
    """The next changes of a promotion whose record is in place: clear the staged objects, stage, or write."""
    staged_names = {name: f"{_STAGED}{record.id}/{file.name}" for name, file in state.files.items()}
    expected = {staged_names[name]: file for name, file in state.files.items()}
    useless = tuple(
        found
        for found in state.staged
        if found.name not in expected or not state.publication.same_content(expected[found.name], found)
    )
    if useless:
        return WriteObjects(record, removals=useless)
    new = [step.name for step in state.work if step.action == "create"]
    if missing := [name for name in new if staged_names[name] not in state.listing]:
        return WriteObjects(record, tuple(state.copy(name, staged_names[name], ABSENT) for name in missing))
    _refuse_other_values(state)
    copies = []
    for step in state.work:
        if step.action == "create":
            copies.append(Copy(state.files[step.name], state.listing[staged_names[step.name]], step.name, ABSENT))
        elif step.action == "replace":
            copies.append(state.copy(step.name, step.name, step.generation))
    removals = tuple(state.listing[step.name] for step in state.work if step.action == "remove")
    return WriteObjects(record, tuple(copies), removals)


def _refuse_other_values(state: State) -> None:
    """Raise IndexerError if an object differs although this command wrote it twice: a third time would not help."""
    for step in state.work:
        generation, writes = state.written.get(step.name, (ABSENT, 0))
        if step.action == "replace" and step.generation == generation and writes >= _MAX_WRITES:
            problem = state.publication.problem(state.files[step.name], state.listing[step.name], NO_CACHE)
            raise IndexerError(
                f"{state.uri}/{step.name} {problem}, although it was written {writes} times",
                "The store does not keep what is written: check the default settings of the bucket and its proxies.",
            )


def _generation(state: State) -> int:
    return state.listing[PROMOTION].generation if PROMOTION in state.listing else ABSENT

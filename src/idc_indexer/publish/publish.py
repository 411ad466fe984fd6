"""Publish: a verified release becomes the files of its version at a store, which never change afterwards.

Every object is created only if it is absent; one that is there with the same bytes is kept, so that running it again
completes what was interrupted. Which of two different releases a version is, is decided by the first object that is
written, the record. The manifest is written last, so a version with a manifest is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from idc_indexer.errors import IndexerError
from idc_indexer.publish.records import (
    IMMUTABLE,
    ROUNDS,
    WORKERS,
    Publication,
    Step,
    folder,
    in_phases,
    put_record,
    read_publication,
    same_content,
    upload_phase,
)
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject
from idc_indexer.release.manifest import MANIFEST
from idc_indexer.release.verify import open_valid


def publish(path: Path, store: Store, *, dry_run: bool = False, workers: int = WORKERS) -> tuple[Step, ...]:
    """Publish a release as its version.

    Args:
        path: the release folder; it is verified first.
        dry_run: write nothing.
        workers: uploads at a time.

    Returns:
        What was done, or would be, with each object, in the order of writing.

    Raises:
        IndexerError: the release is not whole; or the version is, or is being, published with other content, in which
            case nothing was written; or the store failed, in which case the same command goes on from there.
    """
    release = open_valid(path)
    publication = Publication.of(release, store)
    data = {folder(publication.release_version) + file.name: path / file.name for file in publication.files}
    files = {folder(publication.release_version) + file.name: file for file in publication.files}
    first: tuple[Step, ...] = ()
    for _ in range(ROUNDS):
        listing = store.list(f"{publication.release_version}/")
        _refuse_others(store, publication, listing)
        plan = plan_publication(publication, listing)
        first = first or plan
        missing = [step for step in plan if step.action == "create"]
        if dry_run or not missing:
            _read_back(store, publication, listing, dry_run)
            return first

        def create(step: Step) -> None:
            if step.name == publication.record:
                put_record(store, step.name, publication.dump(), ABSENT)
                return
            file = files[step.name]
            made = store.put(step.name, data[step.name], publication.headers(file, IMMUTABLE), ABSENT)
            if not same_content(made, file):
                store.delete(made)
                raise IndexerError(f"{data[step.name]} changed while it was published", "Verify it, and publish again.")

        try:
            in_phases(missing, lambda step: _phase(publication, step), create, workers)
        except ConflictError:
            continue  # written by someone else, or by us although the answer was lost: see which
    raise IndexerError(f"{store.uri}/{publication.release_version}: it keeps being changed by someone else")


def plan_publication(publication: Publication, listing: Mapping[str, StoredObject]) -> tuple[Step, ...]:
    """What there is to do, record first and manifest last, where `listing` is of the version."""
    sizes = {publication.record: len(publication.dump())}
    sizes |= {folder(publication.release_version) + file.name: file.bytes for file in publication.files}
    return tuple(Step("keep" if name in listing else "create", name, size) for name, size in sizes.items())


def _phase(publication: Publication, step: Step) -> int:
    return -1 if step.name == publication.record else upload_phase(step.name)


def _refuse_others(store: Store, publication: Publication, listing: Mapping[str, StoredObject]) -> None:
    """Refuse to go on where another release is, or is being, published."""
    version = publication.release_version
    won = read_publication(store, listing, version)
    if won not in (None, publication):
        theirs, ours = ({file.name: file for file in which.files} for which in (won, publication) if which)
        different = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        finished = folder(version) + MANIFEST in listing
        raise IndexerError(
            f"{store.uri}: another release {'is' if finished else 'is being'} published as {version}: the one whose "
            f"manifest has SHA-256 {theirs[MANIFEST].sha256} won, this one's has {ours[MANIFEST].sha256}; "
            f"they differ in {', '.join(different)}",
            "A published version never changes: give the release another version."
            + ("" if finished else " If the other one will never be completed, remove its folder first."),
        )
    wrong = {name: said for name, said in publication.problems(listing, version, None).items() if name in listing}
    if wrong:
        name = min(wrong)
        raise IndexerError(
            f"{store.uri}/{name} {wrong[name]}; {len(wrong)} such objects, nothing was written",
            "A published version never changes: give the release another version.",
        )


def _read_back(store: Store, publication: Publication, listing: Mapping[str, StoredObject], dry_run: bool) -> None:
    """What was published, as the store has it."""
    wrong = {} if dry_run else publication.problems(listing, publication.release_version, IMMUTABLE)
    if wrong:
        name = min(wrong)
        raise IndexerError(f"{store.uri}/{name} {wrong[name]}; {len(wrong)} such objects")

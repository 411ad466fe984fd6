"""Publish: upload a verified release as the files of its version, which never change afterwards.

Each object is created only if it is absent. An object that exists with the same bytes stays, so running the same
command again completes an interrupted upload. If two different releases have the same version, the one whose record
is written first wins. The manifest is written last, so a version with a manifest is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from idc_indexer.errors import IndexerError
from idc_indexer.progress import ProgressListener
from idc_indexer.publish.records import (
    IMMUTABLE,
    ROUNDS,
    WORKERS,
    Publication,
    Step,
    files_meter,
    in_upload_order,
    put_record,
    read_publication,
    too_many_conflicts,
)
from idc_indexer.publish.root_files import write_root_files
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject
from idc_indexer.release.manifest import MANIFEST, folder
from idc_indexer.release.verify import open_valid


def publish(
    path: Path,
    store: Store,
    *,
    dry_run: bool = False,
    workers: int = WORKERS,
    listener: ProgressListener | None = None,
) -> tuple[Step, ...]:
    """Publish a release as its version, and read back what the store has.

    Args:
        path: the release folder; it is verified first.
        dry_run: write nothing.
        workers: uploads at a time.
        listener: hears how far it is.

    Returns:
        One step for each object, in the order of writing, as planned at the beginning.

    Raises:
        IndexerError: the release is not valid; the version is, or is being, published with other content, in which
            case nothing was written; or the store failed, in which case the same command continues.
    """
    release = open_valid(path, listener)
    publication = Publication.of(release, store)
    first: tuple[Step, ...] = ()
    conflict = None
    for _ in range(ROUNDS):
        listing = store.list(f"{publication.release_version}/")
        try:
            _refuse_others(store, publication, listing)
            plan = plan_publication(publication, listing)
            first = first or plan
            if dry_run:
                return first
            missing = [step for step in plan if step.action == "create"]
            _upload(store, publication, path, missing, workers, listener)
        except ConflictError as error:
            conflict = error
            continue  # Another publisher wrote the object, or we did and the response was lost: list again.
        _read_back(store, publication)
        write_root_files(store, workers)
        return first
    raise too_many_conflicts(store, publication.release_version, conflict)


def plan_publication(publication: Publication, listing: Mapping[str, StoredObject]) -> tuple[Step, ...]:
    """One step for each object, the record first and the manifest last; `listing` is of the version."""
    sizes = {publication.record: len(publication.dump())}
    sizes |= {folder(publication.release_version) + file.name: file.bytes for file in publication.files}
    return tuple(Step("keep" if name in listing else "create", name, size) for name, size in sizes.items())


def _upload(
    store: Store,
    publication: Publication,
    path: Path,
    missing: Sequence[Step],
    workers: int,
    listener: ProgressListener | None,
) -> None:
    """Create the missing objects, the record first. Raises ConflictError if one of them appeared."""
    files = {folder(publication.release_version) + file.name: file for file in publication.files}

    meter = files_meter(listener, f"uploading {publication.release_version}", (step.bytes for step in missing))

    def create(step: Step) -> None:
        meter.add(Path(step.name).name, done=0)
        if step.name == publication.record:
            put_record(store, step.name, publication.dump(), ABSENT)
        else:
            create_file(step)
        meter.add(Path(step.name).name, bytes=step.bytes)

    def create_file(step: Step) -> None:
        file = files[step.name]
        made = store.put(step.name, path / file.name, publication.headers(file, IMMUTABLE), ABSENT)
        if not publication.same_content(file, made):
            store.delete(made)
            raise IndexerError(
                f"{path / file.name} changed during the upload", "Verify the release and publish it again."
            )

    in_upload_order(missing, lambda step: step.name, create, workers)


def _refuse_others(store: Store, publication: Publication, listing: Mapping[str, StoredObject]) -> None:
    """Raise IndexerError if another release is, or is being, published as this version."""
    version = publication.release_version
    won = read_publication(store, listing, version)
    theirs, ours = ({file.name: file for file in found.files} for found in (won or publication, publication))
    if theirs != ours:
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


def _read_back(store: Store, publication: Publication) -> None:
    """List the version again. Raises IndexerError if the store does not have what was published."""
    version = publication.release_version
    if problems := publication.problems(store.list(f"{version}/"), version, IMMUTABLE):
        name = min(problems)
        raise IndexerError(
            f"{store.uri}/{name} {problems[name]}; {len(problems)} such objects",
            f"`publish` replaces no object: find out what else writes to the store or changes its objects, remove the "
            f"folder {version}, and publish again.",
        )

"""Promote: `current` becomes equal to a published version, and is whole for its readers at every moment.

Objects are replaced one by one by copies that the store makes: data, then sidecars, schemas and queries, and the
manifest; what the version does not have is removed at the end. Objects that are right already are left alone, so
that their ETag stays. A reader in between finds each file whole, of one of the two versions; a sidecar that does not
fit its Parquet tells them to read again.

Of two promoters one wins, and the other says which. The record says whose turn it is, and is taken with a
precondition; but whoever has lost it may have a last write under way. That write must not hit:

- Writes over, and removals of, an object need the generation that was listed. Who takes over from an unfinished
  promotion of another version, or finds no record, writes every object again, even one that stays the same, so that
  no listed generation is left.
- A name that `current` does not have is copied to `current/staged/<id>/` first, and from there once the record was
  looked at again. Who takes over removes what others staged before listing, so that the last copy finds no source.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress

from packaging.version import Version

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.records import (
    CURRENT,
    IMMUTABLE,
    NO_CACHE,
    PROMOTION,
    ROUNDS,
    WORKERS,
    MalformedError,
    Promotion,
    Publication,
    Step,
    folder,
    in_phases,
    put_record,
    read_promotion,
    read_publication,
    same_content,
    upload_phase,
)
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject

_STAGED = f"{CURRENT}/staged/"


def promote(
    version: str, store: Store, *, rollback: bool = False, dry_run: bool = False, workers: int = WORKERS
) -> tuple[Step, ...]:
    """Make `current` equal to a published version; complete it, when it was interrupted.

    Args:
        rollback: allow a version that is older than what `current` is, or is becoming.
        dry_run: write nothing.
        workers: copies at a time.

    Returns:
        What was done, or would be, with each object of `current`, in order.

    Raises:
        UsageError: an older version without `rollback`.
        IndexerError: the version is not published whole; another promoter won; the store failed, in which case the
            same command goes on from there.
    """
    own, begun, first = _new_id(), False, None
    for _ in range(ROUNDS):
        listing = store.list(f"{CURRENT}/")
        source = store.list(f"{version}/")
        with suppress(ConflictError):  # look again: whatever happened, the next listing shows it
            held = _held(store, listing)
            publication = _whole(store, source, version)
            if held and not begun and not rollback and Version(version) < Version(held.release_version):
                raise UsageError(
                    f"{version} is older than {held.release_version}, which current {'is' if held.done else 'becomes'}",
                    "Give --rollback if that is meant.",
                )
            if held and not held.done and held.release_version == version:
                own, begun = held.id, True  # ours, or one that we complete
            plan = plan_promotion(publication, held, listing)
            first = first or plan
            work = [step for step in plan if step.action != "keep"]
            if dry_run or (held and held.done and held.release_version == version and not work):
                return first
            if held and begun and held.id != own:
                raise IndexerError(
                    f"{store.uri}: the promotion of {held.release_version} won: it began after this one of {version}",
                    f"Promote {version} again if it is to be current.",
                )
            if held is None or held.done or held.id != own:
                own, begun = _new_id(), True
                record = Promotion(own, version, force_rewrite={} if held and held.done else None)
                put_record(store, PROMOTION, record.dump(), _generation(listing, PROMOTION))
            elif held.force_rewrite is None:
                # What others listed before they saw our record, they listed before this listing.
                record = Promotion(own, version, force_rewrite=_artifacts(listing))
                put_record(store, PROMOTION, record.dump(), _generation(listing, PROMOTION))
            elif work:
                _go_on(store, publication, source, listing, own, work, workers)
            else:
                in_phases(_staged(listing), lambda _: 0, store.delete, workers)
                record = Promotion(own, version, done=True)
                put_record(store, PROMOTION, record.dump(), _generation(listing, PROMOTION))
    raise IndexerError(f"{store.uri}/{CURRENT}: it keeps being changed by someone else", "Promote again.")


def plan_promotion(
    publication: Publication, held: Promotion | None, listing: Mapping[str, StoredObject]
) -> tuple[Step, ...]:
    """What makes the listed `current` equal to a version, in order: the files of the version, then what goes."""
    force_rewrite = _artifacts(listing)
    if held and held.done:
        force_rewrite = {}
    elif held and held.release_version == publication.release_version and held.force_rewrite is not None:
        force_rewrite = dict(held.force_rewrite)
    steps = []
    for file in publication.files:
        name = folder(CURRENT) + file.name
        found = listing.get(name)
        if found is None:
            steps.append(Step("create", name, file.bytes))
        elif publication.problem(file, found, NO_CACHE) or force_rewrite.get(name) == found.generation:
            steps.append(Step("replace", name, file.bytes, found.generation))
        else:
            steps.append(Step("keep", name, file.bytes, found.generation))
    kept = {step.name for step in steps}
    gone = [found for name, found in sorted(listing.items()) if name.startswith(folder(CURRENT)) and name not in kept]
    return (*steps, *(Step("remove", found.name, found.bytes, found.generation) for found in gone))


def _go_on(
    store: Store,
    publication: Publication,
    source: Mapping[str, StoredObject],
    listing: Mapping[str, StoredObject],
    own: str,
    work: list[Step],
    workers: int,
) -> None:
    """One round of a promotion that was found to be ours after the last write; the listing is of then."""
    files = {folder(CURRENT) + file.name: file for file in publication.files}
    ready = {name: _staged_name(own, name) for name in files}
    useless = [
        found
        for found in _staged(listing)
        if not any(found.name == ready[name] and same_content(found, file) for name, file in files.items())
    ]
    if useless:
        in_phases(useless, lambda _: 0, store.delete, workers)
        return
    if new := [step for step in work if step.action == "create" and ready[step.name] not in listing]:

        def put_ready(step: Step) -> None:
            file = files[step.name]
            original = source[folder(publication.release_version) + file.name]
            store.copy(original, ready[step.name], publication.headers(file, NO_CACHE), ABSENT)

        in_phases(new, lambda _: 0, put_ready, workers)
        return

    def act(step: Step) -> None:
        if step.action == "remove":
            store.delete(listing[step.name])
            return
        file = files[step.name]
        original = source[folder(publication.release_version) + file.name]
        if step.action == "create":
            original = listing[ready[step.name]]
        store.copy(original, step.name, publication.headers(file, NO_CACHE), step.generation)

    in_phases(work, _phase, act, workers)


def _held(store: Store, listing: Mapping[str, StoredObject]) -> Promotion | None:
    """The record of `current`, unless someone else has made it unreadable: then as if there was none."""
    try:
        return read_promotion(store, listing)
    except MalformedError:
        return None


def _whole(store: Store, source: Mapping[str, StoredObject], version: str) -> Publication:
    """The record of a version that is published whole."""
    publication = read_publication(store, source, version)
    if publication is None:
        raise IndexerError(
            f"{store.uri}: {version} was not published: it has no publication.json",
            "`idc-indexer publish` does; `idc-indexer status` shows what there is.",
        )
    if problems := publication.problems(source, version, IMMUTABLE):
        name = min(problems)
        raise IndexerError(
            f"{store.uri}/{name} {problems[name]}; {len(problems)} such objects",
            f"Publish {version} again, which completes it; `idc-indexer status` shows more.",
        )
    return publication


def _phase(step: Step) -> int:
    return 4 if step.action == "remove" else upload_phase(step.name)


def _new_id() -> str:
    return secrets.token_hex(8)


def _staged_name(own: str, name: str) -> str:
    return f"{_STAGED}{own}/{name.rpartition('/')[2]}"


def _staged(listing: Mapping[str, StoredObject]) -> list[StoredObject]:
    return [found for name, found in listing.items() if name.startswith(_STAGED)]


def _artifacts(listing: Mapping[str, StoredObject]) -> dict[str, int]:
    return {name: found.generation for name, found in listing.items() if name.startswith(folder(CURRENT))}


def _generation(listing: Mapping[str, StoredObject], name: str) -> int:
    return listing[name].generation if name in listing else ABSENT

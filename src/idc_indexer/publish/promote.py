"""Promote: make `current` equal to a published version; readers find every file complete at every moment.

Each turn of the loop lists `current`, asks `promotion.decide` what comes next, and carries that out. Objects are
copies that the store makes. A command that was killed is completed by running it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from idc_indexer.errors import IndexerError
from idc_indexer.publish.promotion import Change, Copy, Decision, Done, Finish, State, WriteRecord, decide
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
    in_phases,
    put_record,
    read_promotion,
    read_publication,
    upload_phase,
)
from idc_indexer.publish.stores import ConflictError, Store, StoredObject


def promote(
    version: str, store: Store, *, rollback: bool = False, dry_run: bool = False, workers: int = WORKERS
) -> tuple[Step, ...]:
    """Make `current` equal to a published version, or complete a promotion that was interrupted.

    Args:
        rollback: allow a version that is older than the one that `current` equals or is moving to.
        dry_run: write nothing.
        workers: copies at a time.

    Returns:
        One step for each object of `current`, in the order of writing, as planned at the beginning.

    Raises:
        UsageError: an older version without `rollback`.
        IndexerError: the version is not published or not complete; another promotion has taken over; or the store
            failed, in which case the same command continues.
    """
    own, first = None, None
    for _ in range(ROUNDS):
        listing, source = store.list(f"{CURRENT}/"), store.list(f"{version}/")
        try:
            state = State(
                uri=store.uri,
                publication=_complete_publication(store, source, version),
                record=_current_record(store, listing),
                source=source,
                listing=listing,
                own=own,
                new_id=secrets.token_hex(8),
                rollback=rollback,
            )
            decision = decide(state)
            first = first or state.steps
            if dry_run or isinstance(decision, Done):
                return first
            own = decision.record.id
            _carry_out(store, state.publication, decision, workers)
        except ConflictError:
            continue  # The next listing shows what happened.
    raise IndexerError(f"{store.uri}/{CURRENT}: it keeps being changed by someone else", "Promote again.")


def _carry_out(store: Store, publication: Publication, decision: Decision, workers: int) -> None:
    """Carry one decision out. Raises ConflictError if an object is not as it was listed."""

    def copy(one: Copy) -> None:
        store.copy(one.source, one.name, publication.headers(one.file, NO_CACHE), one.generation)

    def remove(objects: Sequence[StoredObject]) -> None:
        in_phases(objects, lambda _: 0, store.delete, workers)

    match decision:
        case Change(_, copies, removals):
            in_phases(copies, lambda one: upload_phase(one.name), copy, workers)
            remove(removals)
        case WriteRecord(record, replaces):
            put_record(store, PROMOTION, record.dump(), replaces)
        case Finish(record, replaces, removals):
            remove(removals)
            put_record(store, PROMOTION, record.dump(), replaces)


def _current_record(store: Store, listing: Mapping[str, StoredObject]) -> Promotion | None:
    """The record of `current`; None also if another program made it invalid."""
    try:
        return read_promotion(store, listing)
    except MalformedError:
        return None


def _complete_publication(store: Store, source: Mapping[str, StoredObject], version: str) -> Publication:
    """The record of a version whose objects are all as published."""
    publication = read_publication(store, source, version)
    if publication is None:
        raise IndexerError(
            f"{store.uri}: {version} was not published: it has no publication.json",
            "Publish it first; `idc-indexer status` lists the published versions.",
        )
    if problems := publication.problems(source, version, IMMUTABLE):
        name = min(problems)
        raise IndexerError(
            f"{store.uri}/{name} {problems[name]}; {len(problems)} such objects",
            f"Publish {version} again to complete it; `idc-indexer status` lists all problems.",
        )
    return publication

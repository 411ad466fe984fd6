"""Promote: make `current` equal to a published version; readers find every file complete at every moment.

Each turn of the loop lists `current`, asks `promotion.decide` what comes next, and carries that out. Objects are
copies that the store makes. A command that was killed is completed by running it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from idc_indexer.errors import IndexerError
from idc_indexer.publish.promotion import Copy, Decision, Done, Finish, State, WriteObjects, WriteRecord, decide
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
    check_release_version,
    in_parallel,
    in_upload_order,
    put_record,
    read_promotion,
    read_publication,
    too_many_conflicts,
)
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject


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
        UsageError: not a version; or an older version without `rollback`.
        IndexerError: the version is not published or not complete; another promotion has taken over; or the store
            failed, in which case the same command continues.
    """
    check_release_version(version)
    own, first, conflict = None, None, None
    written: dict[str, tuple[int, int]] = {}
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
                written=written,
                rollback=rollback,
            )
            decision = decide(state)
            first = first or state.steps
            if dry_run or isinstance(decision, Done):
                return first
            own = decision.record.id
            _carry_out(store, state.publication, decision, written, workers)
        except ConflictError as error:
            conflict = error  # The next listing shows what happened.
    raise too_many_conflicts(store, CURRENT, conflict)


def _carry_out(
    store: Store, publication: Publication, decision: Decision, written: dict[str, tuple[int, int]], workers: int
) -> None:
    """Carry one decision out, and add to `written`. Raises ConflictError if an object is not as it was listed."""

    def copy(one: Copy) -> None:
        made = store.copy(one.source, one.name, publication.headers(one.file, NO_CACHE), one.generation)
        last, writes = written.get(one.name, (ABSENT, 0))
        written[one.name] = made.generation, writes + 1 if last == one.generation else 1

    match decision:
        case WriteObjects(_, copies, removals):
            in_upload_order(copies, lambda one: one.name, copy, workers)
            in_parallel(removals, store.delete, workers)
        case WriteRecord(record, replaces):
            put_record(store, PROMOTION, record.dump(), replaces)
        case Finish(record, replaces, removals):
            in_parallel(removals, store.delete, workers)
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

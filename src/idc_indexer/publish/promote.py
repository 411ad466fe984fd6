"""Promote: make `current` equal to a published version; readers find every file complete at every moment.

Each turn of the loop lists `current`, asks `promotion.decide` what comes next, and carries that out. Objects are
copies that the store makes. A command that was killed is completed by running it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import NullListener, ProgressListener
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
    artifacts,
    check_release_version,
    explaining_version,
    files_meter,
    in_parallel,
    in_upload_order,
    put_record,
    read_promotion,
    read_publication,
    read_withdrawal,
    too_many_conflicts,
    withdrawal_name,
)
from idc_indexer.publish.root_files import write_root_files
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject
from idc_indexer.release.manifest import folder


@dataclass(frozen=True)
class Promoted:
    """What a promotion did, or would do.

    Attributes:
        steps: one for each object of `current`, in the order of writing, as planned at the beginning.
        replaced: the other version that `current` was, or was moving to; None if there was none.
        replaced_withdrawn: whether that is withdrawn already.
    """

    steps: tuple[Step, ...]
    replaced: str | None = None
    replaced_withdrawn: bool = False


def promote(
    version: str,
    store: Store,
    *,
    rollback: bool = False,
    allow_withdrawn: bool = False,
    replace_unrecorded: bool = False,
    dry_run: bool = False,
    workers: int = WORKERS,
    listener: ProgressListener | None = None,
) -> Promoted:
    """Make `current` equal to a published version, or complete a promotion that was interrupted.

    Args:
        rollback: allow a version that is older than the one that `current` equals or is moving to.
        allow_withdrawn: allow a version that is withdrawn.
        replace_unrecorded: allow that files of `current` which no record explains are replaced.
        dry_run: write nothing.
        workers: copies at a time.
        listener: hears how far it is.

    Raises:
        UsageError: not a version; or what `rollback`, `allow_withdrawn` or `replace_unrecorded` would have to allow.
        IndexerError: the version is not published or not complete; another promotion has taken over; or the store
            failed, in which case the same command continues.
    """
    check_release_version(version)
    own, first, conflict = None, None, None
    listener = listener or NullListener()
    written: dict[str, tuple[int, int]] = {}
    for _ in range(ROUNDS):
        listing, source = store.list(f"{CURRENT}/"), store.list(f"{version}/")
        try:
            if not allow_withdrawn:
                _refuse_withdrawn(store, source, version)
            record = _current_record(store, listing)
            unexplained = not (record or own) and artifacts(listing, CURRENT)
            state = State(
                uri=store.uri,
                publication=_complete_publication(store, source, version),
                record=record,
                source=source,
                listing=listing,
                own=own,
                new_id=secrets.token_hex(8),
                written=written,
                rollback=rollback,
                explained_by=explaining_version(store, store.list(""), listing) if unexplained else None,
                replace_unrecorded=replace_unrecorded,
            )
            decision = decide(state)
            first = first or _promoted(store, state)
            if dry_run or isinstance(decision, Done):
                break
            own = decision.record.id
            _carry_out(store, state.publication, decision, written, workers, listener)
        except ConflictError as error:
            conflict = error  # The next listing shows what happened.
    else:
        raise too_many_conflicts(store, CURRENT, conflict)
    if not dry_run:
        write_root_files(store, workers)
    return first


def _promoted(store: Store, state: State) -> Promoted:
    """What the promotion will do, as far as it is known at the beginning."""
    replaced = state.record.release_version if state.record else state.explained_by
    if replaced in (None, state.version):
        return Promoted(state.steps)
    withdrawn = bool(store.list(withdrawal_name(replaced)))
    return Promoted(state.steps, replaced, withdrawn)


def _refuse_withdrawn(store: Store, source: Mapping[str, StoredObject], version: str) -> None:
    if reason := read_withdrawal(store, source, version):
        raise UsageError(
            f"{version} is withdrawn: {reason}", "Choose another version. To promote it anyway, give --allow-withdrawn."
        )


def _carry_out(
    store: Store,
    publication: Publication,
    decision: Decision,
    written: dict[str, tuple[int, int]],
    workers: int,
    listener: ProgressListener,
) -> None:
    """Carry one decision out, and add to `written`. Raises ConflictError if an object is not as it was listed."""
    copies = decision.copies if isinstance(decision, WriteObjects) else ()
    meter = files_meter(listener, _what(copies), (one.file.bytes for one in copies)) if copies else None

    def copy(one: Copy) -> None:
        made = store.copy(one.source, one.name, publication.headers(one.file, NO_CACHE), one.generation)
        last, writes = written.get(one.name, (ABSENT, 0))
        written[one.name] = made.generation, writes + 1 if last == one.generation else 1
        if meter:
            meter.add(one.file.name, bytes=one.file.bytes)

    match decision:
        case WriteObjects(_, copies, removals):
            in_upload_order(copies, lambda one: one.name, copy, workers)
            in_parallel(removals, store.delete, workers)
        case WriteRecord(record, replaces):
            put_record(store, PROMOTION, record.dump(), replaces)
        case Finish(record, replaces, removals):
            in_parallel(removals, store.delete, workers)
            put_record(store, PROMOTION, record.dump(), replaces)


def _what(copies: Sequence[Copy]) -> str:
    """What copies do, in words: new files take two steps."""
    new = all(not one.name.startswith(folder(CURRENT)) for one in copies)
    return "copying new files" if new else "replacing current"


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
            "Publish it first. If another tool published it, record it with `idc-indexer adopt`. `idc-indexer status` "
            "lists the versions.",
        )
    if problems := publication.problems(source, version, IMMUTABLE):
        name = min(problems)
        raise IndexerError(
            f"{store.uri}/{name} {problems[name]}; {len(problems)} such objects",
            f"Publish {version} again to complete it; `idc-indexer status` lists all problems.",
        )
    return publication

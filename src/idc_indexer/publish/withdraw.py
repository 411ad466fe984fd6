"""Withdraw: mark a published version as bad. Its files stay, because users may have pinned it.

The mark is one record, `<version>/withdrawal.json`, beside the record of the version.
"""

from __future__ import annotations

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.records import (
    ROUNDS,
    check_release_version,
    dump_withdrawal,
    put_record,
    read_withdrawal,
    too_many_conflicts,
    withdrawal_name,
)
from idc_indexer.publish.root_files import write_root_files
from idc_indexer.publish.stores import ABSENT, ConflictError, Store


def withdraw(version: str, reason: str, store: Store) -> None:
    """Record that a version is withdrawn, and why. A later reason replaces an earlier one.

    Raises:
        UsageError: not a version, or a reason of several lines.
        IndexerError: there is no such version, or the store failed.
    """
    check_release_version(version)
    reason = reason.strip()
    try:
        record = dump_withdrawal(version, reason)
    except IndexerError as error:
        raise UsageError("--reason: give one line of at most 1,000 characters") from error
    conflict = None
    for _ in range(ROUNDS):
        listing = store.list(f"{version}/")
        if not listing:
            raise IndexerError(f"{store.uri}: there is no version {version}", "`idc-indexer status` lists all.")
        if read_withdrawal(store, listing, version) == reason:
            write_root_files(store)
            return
        present = listing.get(withdrawal_name(version))
        try:
            put_record(store, withdrawal_name(version), record, present.generation if present else ABSENT)
        except ConflictError as error:
            conflict = error
    raise too_many_conflicts(store, version, conflict)

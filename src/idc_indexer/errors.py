"""The one exception that users are meant to see.

Everything that can go wrong because of what a user gave, or of what the world is like (files, disks, source tables),
is raised as `IndexerError`. Any other exception that leaves the library is a defect of the library.
"""

from __future__ import annotations


class IndexerError(Exception):
    """Something could not be done, and why.

    Args:
        message: what is wrong, naming the file, table, column or option at fault.
        hint: what to do about it; empty when the message says it all.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(IndexerError):
    """The request itself makes no sense: an unknown index, a malformed version."""

"""The one exception that users see, and how text from outside is shown to them.

The library raises `IndexerError` for every mistake of the user and every fault of files, disks, networks and source
tables. Any other exception that leaves the library is a defect of the library.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class IndexerError(Exception):
    """An operation failed.

    Args:
        message: what is wrong, with the name of the file, table, column or option.
        hint: what to do about it; empty if the message suffices.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(IndexerError):
    """The request is wrong, such as an unknown index or a malformed version."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean X? ` for a mistyped name, "" if no known name is close; case does not matter."""
    by_key = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), by_key, 1, 0.7)
    return f"Did you mean {by_key[close[0]]}? " if close else ""


_SHOWN_RAW = " \n\t"
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's control and format characters, surrogates, and separators of lines and paragraphs."""


def printable(text: str, *, lines: bool = True) -> str:
    """Text with every character escaped that a terminal could obey: names of files, objects and columns are data.

    Escape sequences can clear the screen, set the title or hide what follows; marks of direction reorder a line. The
    escapes are those of JSON, so that JSON stays valid.

    Args:
        lines: whether the text may have several lines; if not, line feeds are escaped too.
    """
    if text.isascii() and text.isprintable():
        return text
    raw = _SHOWN_RAW if lines else " "
    return "".join(c if c in raw or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

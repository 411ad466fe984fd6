"""`data-dictionary.md`: every table and column in words, for people and language models."""

from __future__ import annotations

from idc_indexer.release.descriptions.description import Description
from idc_indexer.release.descriptions.markdown import render


def text(description: Description) -> str:
    """The content of `data-dictionary.md`."""
    return render("dictionary.md.jinja", description)

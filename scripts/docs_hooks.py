"""What mkdocs does beside its own: the README is the first page, and links to files that are no pages lose their link.

On GitHub, and in a checkout, the same links lead to the files themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page as it is in docs/; the first one is the README."""
    source = page.file.src_uri
    if source == "index.md":
        return without_files((TOP / "README.md").read_text(encoding="utf-8"), TOP)
    return without_files(markdown, TOP / "docs" / Path(source).parent)


def without_files(markdown: str, folder: Path) -> str:
    """Links of a text that lies in a folder: to pages as seen from docs/, and none to other files.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """

    def change(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        target = (folder / path).resolve(strict=True)
        if target == TOP / "README.md":
            return f"[{text}](index.md{anchor})"
        if target.parent == TOP / "docs" and target.suffix == ".md":
            return f"[{text}]({target.name}{anchor})"
        return text

    return _LINK.sub(change, markdown)

"""Report: the content of a release and its changes, in one HTML file for people.

The file is complete in itself: it loads nothing. The same release and the same difference give the same bytes, with the
same versions of Jinja and Pygments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from rich.filesize import decimal

import idc_indexer
from idc_indexer import files
from idc_indexer.diff.render import STATES, idc_lines, size_of_tb
from idc_indexer.diff.result import Difference, shown
from idc_indexer.errors import IndexerError
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.manifest import (
    MANIFEST,
    PUBLISHED,
    REPORT,
    FileEntry,
    Release,
    public_address,
    release_lock,
)
from idc_indexer.release.verify import verify
from idc_indexer.report.charts import Bar, columns, rows
from idc_indexer.report.facts import ReleaseFacts, gather

_TOP = 25
"""Collections in the chart; the table below it has all."""


def write_report(path: Path, difference: Difference | None = None, published: str = PUBLISHED) -> Release:
    """Write `report.html` into a release, and into its manifest.

    Args:
        path: the release folder; it is verified first.
        difference: from the prior release to this one; without it, the report has no section on changes.
        published: where the release is, or will be, published as `<version>/release_artifacts/`: a URL, or
            `gs://bucket[/prefix]`.

    Raises:
        IndexerError: the release is not valid, apart from the report that is replaced.
    """
    with release_lock(path):
        if problems := [problem for problem in verify(path) if problem.file != REPORT]:
            raise IndexerError(
                f"{path}: {len(problems)} problems, the first in {problems[0].file}: {problems[0].message}",
                f"`idc-indexer verify {path}` lists all. A release with problems gets no report.",
            )
        release = Release.open(path)
        if difference:
            # The page is public: it names the prior release, not the path where it was.
            before = difference.old_version or Path(difference.old).name
            difference = replace(difference, old=before, new=release.release_version)
        page = release_page(gather(release), difference, published).encode()
        made = replace(release, report=FileEntry(REPORT, len(page), hashlib.sha256(page).hexdigest()))
        # If the command is killed in between, the manifest does not list the report; running it again repairs that.
        files.write_atomic(path / REPORT, page)
        if made != release:
            files.write_atomic(path / MANIFEST, made.manifest())
        return made


def release_page(facts: ReleaseFacts, difference: Difference | None, published: str = PUBLISHED) -> str:
    """The report of a release."""
    release = facts.release
    tables = sorted(facts.tables, key=lambda table: (-table.data.bytes, table.entry.name))
    indices = [table for table in facts.tables if table.schema]
    return _render(
        "release.html",
        facts=facts,
        release=release,
        difference=difference,
        base=public_address(published, release.release_version),
        indices=indices,
        queries={table.entry.name: _highlighted(table.query) for table in indices if table.query},
        bytes=sum(file.bytes for file in release.files if file.name != REPORT),
        series=next((t.entry.rows for t in indices if t.entry.name == IDC_INDEX), None),
        charts=_charts(facts, tables),
    )


def difference_page(difference: Difference) -> str:
    """The differences between two inputs, as a page of its own."""
    return _render("difference.html", difference=difference)


def _charts(facts: ReleaseFacts, tables: Any) -> Mapping[str, Markup]:
    largest = tables[0]
    found = {
        "sizes": rows(
            "sizes-chart",
            "Size of each table",
            f"Bars by size of the file. The largest is {largest.entry.name} with {decimal(largest.data.bytes)}.",
            [Bar(table.entry.name, table.data.bytes, decimal(table.data.bytes)) for table in tables],
        )
    }
    if facts.growth:
        first, last = facts.growth[0], facts.growth[-1]
        found["growth"] = columns(
            "growth-chart",
            "Size of all series after each IDC release",
            f"Columns that grow from {size_of_tb(first.all_tb)} in release {first.release} to "
            f"{size_of_tb(last.all_tb)} in release {last.release}; the upper part is the added size.",
            [Bar(f"v{g.release}", g.all_tb - g.tb, size_of_tb(g.all_tb), g.tb) for g in facts.growth],
        )
    for name, groups, what in (
        ("collections", facts.collections[:_TOP], "collections with the most series"),
        ("modalities", facts.modalities, "modalities"),
    ):
        if groups:
            found[name] = rows(
                f"{name}-chart",
                f"Series of the {what}",
                f"Bars by number of series. The longest is {groups[0].name} with {groups[0].series:,}.",
                [Bar(group.name or "none", group.series, f"{group.series:,}") for group in groups],
            )
    return found


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[[Any], str]] = {
        "size": decimal,
        "tb": size_of_tb,
        "number": lambda n: f"{n:,}",
        "percent": _percent,
        "shown": shown,
        "name": _breakable,
    }
    environment.filters |= filters
    environment.globals |= {"idc_lines": idc_lines, "states": STATES, "toolkit": idc_indexer.__version__}
    here = Path(__file__).parent
    assets = {name: Markup((here / name).read_text(encoding="utf-8")) for name in ("style.css", "search.js")}  # noqa: S704
    return (
        environment.get_template(template).render(style=assets["style.css"], script=assets["search.js"], **values)
        + "\n"
    )


def _highlighted(query: str) -> Markup:
    """A query with its tokens marked by class, escaped."""
    formatter: Any = HtmlFormatter(nowrap=True)
    return Markup(highlight(query, get_lexer_by_name("googlesql"), formatter))  # noqa: S704 -- Pygments escapes it


def _breakable(name: str) -> Markup:
    """A name of a column or table, which may be broken after an underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _percent(share: float) -> str:
    return f"{share:.1%}"

"""Report: the content of a release and its changes, in one HTML file for people.

The file is complete in itself: it loads nothing. The same release and the same difference give the same bytes, with the
same versions of Jinja and Pygments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from rich.filesize import decimal, pick_unit_and_suffix

import idc_indexer
from idc_indexer import files
from idc_indexer.diff.regressions import Finding, explained_findings, load_limits, with_reasons
from idc_indexer.diff.render import STATES, idc_lines, size_of_tb, withdrawn_lines
from idc_indexer.diff.result import Difference, shown
from idc_indexer.errors import IndexerError
from idc_indexer.progress import ProgressListener
from idc_indexer.publish.release_source import bundled_schemas, derived_tables
from idc_indexer.publish.wheel import LIMIT, NEEDED, wheel_files
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.descriptions import describe
from idc_indexer.release.descriptions.croissant import schema_org
from idc_indexer.release.descriptions.description import percent
from idc_indexer.release.history import SERIES_HISTORY
from idc_indexer.release.manifest import (
    DICTIONARY,
    DUCKDB_FILE,
    MANIFEST,
    PUBLISHED,
    REPORT,
    Release,
    file_entry,
    parquet_name,
    public_address,
    release_lock,
)
from idc_indexer.release.verify import verify
from idc_indexer.report.charts import Bar, columns, rows
from idc_indexer.report.facts import MAX_CELL, Growth, ReleaseFacts, gather

_TOP = 25
"""Collections in the chart; the table below it has all."""
_TB = 1e12
_UNIT_STEP = 1000


def write_report(
    path: Path,
    difference: Difference | None = None,
    published: str | None = None,
    limits: Mapping[str, Any] | None = None,
    listener: ProgressListener | None = None,
) -> Release:
    """Write `report.html` into a release, and into its manifest.

    Args:
        path: the release folder; it is verified first.
        difference: from the prior release to this one; without it, the report has no section on changes.
        published: where the release is, or will be, published as `<version>/release_artifacts/`: a URL, or
            `gs://bucket[/prefix]`. Without it, and with a folder, links lead to the files beside the page.
        limits: of the regression checks; those of the toolkit if None.
        listener: hears how far it is.

    Raises:
        IndexerError: the release is not valid, apart from the report that is replaced.
    """
    with release_lock(path):
        if problems := [problem for problem in verify(path, listener) if problem.file != REPORT]:
            raise IndexerError(
                f"{path}: {len(problems)} problems, the first in {problems[0].file}: {problems[0].message}",
                f"`idc-indexer verify {path}` lists all. A release with problems gets no report.",
            )
        release = Release.open(path)
        found: list[Finding] = []
        if difference:
            # The page is public: it names the prior release, not the path where it was.
            before = difference.old_version or Path(difference.old).name
            why = difference.withdrawn.get(difference.old, "")
            withdrawn = {before: why} if why else {}
            difference = replace(difference, old=before, new=release.release_version, withdrawn=withdrawn)
            found = with_reasons(explained_findings(difference, limits or load_limits()), release, before)
        # The path of a folder is of no use to readers.
        public = published if published and "://" in published else ""
        description = describe(release, public or release.published_at or PUBLISHED)
        page = release_page(gather(description, listener), difference, found, bool(public)).encode()
        made = replace(release, report=file_entry(REPORT, page))
        # If the command is killed in between, the manifest does not list the report; running it again repairs that.
        files.write_atomic(path / REPORT, page)
        if made != release:
            files.write_atomic(path / MANIFEST, made.manifest())
        return made


def release_page(facts: ReleaseFacts, difference: Difference | None, found: Sequence[Finding], public: bool) -> str:
    """The report of a release.

    Args:
        found: the findings of the regression checks on the difference.
        public: links lead to the public address of the description, not to the files beside the page.
    """
    release, description = facts.release, facts.description
    described = {file.name for file in release.descriptions}
    tables = sorted(facts.tables, key=lambda table: (-table.data.bytes, table.entry.name))
    indices = [table for table in facts.tables if table.schema]
    return _render(
        "release.html",
        facts=facts,
        release=release,
        difference=difference,
        found=found,
        elsewhere=[one for one in release.accepted if not (difference and one.against == difference.old)],
        notices=[*_notices(facts)],
        wheel=_wheel(release),
        description=description,
        base=description.address if public else "",
        views=public_address(release.published_at, release.release_version) if DUCKDB_FILE in described else "",
        dictionary=DICTIONARY if DICTIONARY in described else "",
        # Nobody knows the address of a release without descriptions, unless it is given.
        dataset=schema_org(description) if public or described else None,
        indices=indices,
        queries={table.entry.name: _highlighted(table.query) for table in indices if table.query},
        bytes=sum(file.bytes for file in release.files if file.name != REPORT),
        series=next((t.entry.rows for t in indices if t.entry.name == IDC_INDEX), None),
        charts=_charts(facts, tables),
    )


def _notices(facts: ReleaseFacts) -> Iterator[str]:
    """Why this is not all of IDC, or not as the toolkit defines it."""
    release, source = facts.release, facts.release.about["source"]
    if source["kind"] == "sample":
        yield (
            "Sample build: a few hundred real series of IDC, with invented acquisition attributes. It shows what the "
            "toolkit does, and is no release of IDC."
        )
    all_indices = sorted(bundled_schemas().keys() - {path.stem for path in derived_tables()} - {SERIES_HISTORY})
    present = {entry.name for entry in release.indices}
    if missing := [name for name in all_indices if name not in present]:
        yield (
            f"Partial build: it has {len(all_indices) - len(missing)} of {len(all_indices)} indices. "
            f"It lacks {', '.join(missing)}."
        )
    for name, table in source["tables"].items():
        if excluded := table.get("left_out"):
            yield f"Excluded data: {len(excluded)} shards of {name} were not read, so their rows are missing."
    if any(one["accepted"] for one in source.get("row_count_mismatches", ())):
        yield "Accepted mismatch: source tables with one row per instance had different numbers of rows."
    if unproven := release.about["engine"].get("unproven"):
        yield f"Unproven SQL: {', '.join(unproven)} may have other rows than on BigQuery."
    if replaced := [entry.name for entry in release.indices if entry.overrides_built_in]:
        yield f"Replaced definitions: {', '.join(replaced)} come from a query or schema that replaces the toolkit's."


def _wheel(release: Release) -> str:
    """Size of the data wheel, and the room left in it: the sum of its files, of which a zip makes a little less."""
    held = wheel_files(release)
    if missing := [name for name in NEEDED if parquet_name(name) not in {file.name for file in held}]:
        return f"This build gives no data wheel for the idc-index client, which needs {' and '.join(missing)} too."
    size = sum(file.bytes for file in held)
    if size > LIMIT:
        return f"The files of the data wheel have {decimal(size)}; PyPI accepts {decimal(LIMIT)}."
    room = decimal(LIMIT - size)
    return f"The data wheel has at most {decimal(size)}. PyPI accepts {decimal(LIMIT)}: at least {room} are left."


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
        found["growth"] = _growth_chart(facts.growth)
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


def _growth_chart(growth: Sequence[Growth]) -> Markup:
    first, last = growth[0], growth[-1]
    unit, suffix = pick_unit_and_suffix(
        max(round(last.all_tb * _TB), 1), ["bytes", "kB", "MB", "GB", "TB", "PB"], _UNIT_STEP
    )
    scale = _TB / unit
    return columns(
        "growth-chart",
        "Size of all series after each IDC release",
        f"Columns that grow from {size_of_tb(first.all_tb)} in release {first.release} to "
        f"{size_of_tb(last.all_tb)} in release {last.release}; the upper part is the added size.",
        [Bar(f"v{g.release}", (g.all_tb - g.tb) * scale, size_of_tb(g.all_tb), g.tb * scale) for g in growth],
        ("IDC release", f"Size of all series, {suffix}"),
    )


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[..., str]] = {
        "size": decimal,
        "tb": size_of_tb,
        "number": lambda n: f"{n:,}",
        "percent": percent,
        "shown": shown,
    }
    environment.filters |= filters
    environment.globals |= {
        "idc_lines": idc_lines,
        "withdrawn_lines": withdrawn_lines,
        "states": STATES,
        "MAX_CELL": MAX_CELL,
        "toolkit": idc_indexer.__version__,
    }
    here = Path(__file__).parent
    assets = {name: Markup((here / name).read_text(encoding="utf-8")) for name in ("style.css", "page.js")}  # noqa: S704
    return (
        environment.get_template(template).render(style=assets["style.css"], script=assets["page.js"], **values) + "\n"
    )


def _highlighted(query: str) -> Markup:
    """A query with its tokens marked by class, escaped."""
    formatter: Any = HtmlFormatter(nowrap=True)
    return Markup(highlight(query, get_lexer_by_name("googlesql"), formatter))  # noqa: S704 -- Pygments escapes it

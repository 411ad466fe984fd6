"""What is different, and what is in a release: diff, report."""

from __future__ import annotations

from pathlib import Path

import click

from idc_indexer.cli.github import set_outputs, summarize
from idc_indexer.cli.options import FOUND_PROBLEMS, json_option, main, published_option, show
from idc_indexer.errors import UsageError


@main.command()
@click.argument("old")
@click.argument("new")
@click.option("--index", "indices", multiple=True, metavar="INDEX", help="Compare this one; may be repeated.")
@click.option(
    "--key",
    multiple=True,
    metavar="COLUMN",
    help="Column by which rows are matched, for files without a schema; may be repeated.",
)
@published_option
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page to FILE too."
)
@click.option("--markdown", is_flag=True, help="Print Markdown for a GitHub release or a step summary.")
@json_option
def diff(
    old: str,
    new: str,
    indices: tuple[str, ...],
    key: tuple[str, ...],
    published_at: str | None,
    html: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Print what is different in NEW, next to OLD.

    Each is a release folder, a data wheel, a Parquet file, an address of published files, or a published version,
    such as 25.0.5. The first line says whether the contents are equal. Rows are matched by the key of their schema;
    their order, the layout of files and descriptions are reported, and do not count.
    Exits with 3 when the contents are not equal.

    \b
    Example:
      idc-indexer diff 25.0.5 release
    """
    from idc_indexer.diff import diff as run
    from idc_indexer.diff import open_inputs
    from idc_indexer.diff.render import lines
    from idc_indexer.diff.render import markdown as as_markdown
    from idc_indexer.publish.records import PUBLISHED

    if markdown and as_json:
        raise UsageError("--json and --markdown exclude each other", "Give one of them.")
    with open_inputs(old, new, published_at or PUBLISHED) as sides:
        found = run(*sides, indices, key)
    summarize(as_markdown(found))
    if html:
        from idc_indexer import files
        from idc_indexer.report import difference_page

        files.write_atomic(html, difference_page(found).encode())
    if as_json:
        click.echo(found.dump(), nl=False)
    elif markdown:
        click.echo(as_markdown(found), nl=False)
    else:
        for line in lines(found):
            click.echo(line)
    if not found.equal:
        raise SystemExit(FOUND_PROBLEMS)


@main.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.option("--against", metavar="OLD", help="The release before, as `diff` takes it: say what changed.")
@published_option
@json_option
def report(release: Path, against: str | None, published_at: str | None, as_json: bool) -> None:
    """Write report.html into the release in DIR: what is in it, for people.

    It is one file that needs no network, becomes part of the release and of its manifest, and is published with it.
    The release is verified first. What was accepted with `verify --accept` is in it, so make it afterwards.

    \b
    Example:
      idc-indexer report release --against 25.0.5
    """
    from idc_indexer.diff import diff as compare
    from idc_indexer.diff import open_inputs
    from idc_indexer.files import sha256
    from idc_indexer.publish.records import PUBLISHED
    from idc_indexer.release.manifest import MANIFEST
    from idc_indexer.report import write_report

    where = published_at or PUBLISHED
    found = None
    if against:
        with open_inputs(against, str(release), where) as sides:
            found = compare(*sides)
    made = write_report(release, found, where).report
    if made:
        lines = [f"{release / made.name}: {made.bytes:,} bytes, sha256 {made.sha256}"]
        show("Report", lines, made.to_document(), as_json)
    # the report is in it
    set_outputs(manifest_sha256=sha256(release / MANIFEST))

"""What is different, and what is in a release: diff, report."""

from __future__ import annotations

import click

from idc_indexer.cli.common import FOUND_PROBLEMS, json_option, main, published_option
from idc_indexer.cli.github import summarize
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
@click.option("--markdown", is_flag=True, help="Print Markdown for a GitHub release or a step summary.")
@json_option
def diff(
    old: str,
    new: str,
    indices: tuple[str, ...],
    key: tuple[str, ...],
    published: str | None,
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
    from idc_indexer.diff import open_sides
    from idc_indexer.diff.text import lines
    from idc_indexer.diff.text import markdown as as_markdown
    from idc_indexer.published import PUBLISHED

    if markdown and as_json:
        raise UsageError("--json and --markdown exclude each other", "Give one of them.")
    with open_sides(old, new, published or PUBLISHED) as sides:
        found = run(*sides, indices, key)
    summarize(as_markdown(found))
    if as_json:
        click.echo(found.dump(), nl=False)
    elif markdown:
        click.echo(as_markdown(found), nl=False)
    else:
        for line in lines(found):
            click.echo(line)
    if not found.equal:
        raise SystemExit(FOUND_PROBLEMS)

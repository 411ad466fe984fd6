"""Problems of a release, and its differences to another one: verify, diff, report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idc_indexer.cli import completion
from idc_indexer.cli.github import set_outputs
from idc_indexer.cli.group import FOUND_PROBLEMS, main
from idc_indexer.cli.options import (
    INDICES_VARIABLE,
    Lines,
    against_option,
    argument,
    limits_option,
    manifest_option,
    option,
    output_options,
    published_option,
    release_argument,
)
from idc_indexer.cli.output import Output, aggregated, note, size
from idc_indexer.cli.progress import show_progress

if TYPE_CHECKING:
    from idc_indexer.api.compare import Verification


def _accepted(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Reasons by name of finding."""
    return dict(line.partition("=")[::2] for value in values for line in value.splitlines())


@main.command()
@release_argument
@manifest_option
@against_option
@limits_option
@option(
    "--accept",
    type=Lines(),
    multiple=True,
    metavar="FINDING=REASON",
    callback=_accepted,
    help="Accept a finding of --against, such as rows:ct_index; the manifest records the reason. May be repeated, or "
    "have a line for each.",
)
@published_option
@output_options()
def verify(
    release: Path,
    against: str | None,
    limits: Path | None,
    accept: dict[str, str],
    published_at: str | None,
    output: Output,
) -> None:
    """Check a release against its manifest and schemas.

    With --against, also check what changed since the prior release: removed indices, columns or collections, changed
    types or keys, and fewer rows or more NULLs than the limits allow. Each finding has a name, by which you can accept
    it with a reason.

    Prints one line for each problem or finding, and exits with 3 if there are any that you did not accept.

    \b
    Example:
      idc-indexer verify release --against 25.0.5
    """
    from idc_indexer.api.compare import verify_release

    with show_progress() as listener:
        found = verify_release(
            release, against=against, limits=limits, accept=accept, published_at=published_at, listener=listener
        )
    if against and found.findings is None:
        note("changes not checked: the release has problems")
    if found.against_withdrawn:
        note(f"{against} is withdrawn: {found.against_withdrawn}")
    if found.not_compared:
        note(f"not compared: row data unavailable: {', '.join(found.not_compared)}")
    for index, constructs in found.unproven.items():
        note(f"{index}: built with --unproven: {'; '.join(constructs)}")
    output.show("Verification", [*_found(found)] + [f"{release}: OK"] * found.ok, found.to_document())
    set_outputs(manifest_sha256=found.manifest_sha256)  # accepted findings change the manifest
    raise SystemExit(0 if found.ok else FOUND_PROBLEMS)


def _found(verification: Verification) -> Iterator[str]:
    yield from aggregated((problem.file, problem.message) for problem in verification.problems)
    for finding in verification.findings or ():
        yield f"{finding.name}: {finding.message}" + (f" (accepted: {finding.reason})" if finding.reason else "")
        if finding.follows and not finding.reason:
            yield f"    follows from {', '.join(finding.follows)}: accept that"
        elif not finding.reason:
            quoted = finding.name.replace("'", "'\\''")
            yield f"    to accept it: --accept '{quoted}=REASON'"


@main.command()
@argument("old", shell_complete=completion.paths)
@argument("new", shell_complete=completion.paths)
@option(
    "--index",
    "indices",
    multiple=True,
    metavar="INDEX",
    envvar=INDICES_VARIABLE,
    shell_complete=completion.indices,
    help="Compare only this index; may be repeated.",
)
@option(
    "--key",
    multiple=True,
    metavar="COLUMN",
    help="Column by which rows are matched, for files without a schema; may be repeated.",
)
@published_option
@option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page to FILE too.")
@output_options(markdown="Print Markdown for a GitHub release or a step summary.")
def diff(
    old: str,
    new: str,
    indices: tuple[str, ...],
    key: tuple[str, ...],
    published_at: str | None,
    html: Path | None,
    output: Output,
) -> None:
    """Compare the contents of two releases, wheels or files.

    OLD and NEW are each a release folder, a data wheel, a Parquet file, an address of published files, or a published
    version, such as 25.0.5. The first line says whether the contents are equal. Rows are matched by the key of their
    schema. Changes of row order, file layout and descriptions are printed, but count as equal.

    Exits with 3 if the contents are not equal.

    \b
    Example:
      idc-indexer diff 25.0.5 release
    """
    from idc_indexer.api.compare import diff_releases
    from idc_indexer.diff.render import lines, markdown

    with show_progress() as listener:
        found = diff_releases(
            old, new, indices=indices, key=key, published_at=published_at, html=html, listener=listener
        )
    output.show("Differences", [*lines(found)], found.to_document(), markdown=markdown(found))
    raise SystemExit(0 if found.equal else FOUND_PROBLEMS)


@main.command()
@release_argument
@against_option
@limits_option
@published_option
@output_options()
def report(release: Path, against: str | None, limits: Path | None, published_at: str | None, output: Output) -> None:
    """Write report.html, for people, into a release.

    The report is one file that needs no network. It becomes part of the release and of its manifest, and is published
    with it. The release is verified first. The report shows the findings of --against and those accepted with `verify
    --accept`: run `report` afterwards. With --published-at, it also gives the addresses of the files.

    \b
    Example:
      idc-indexer report release --against 25.0.5
    """
    from idc_indexer.api.compare import write_report

    with show_progress() as listener:
        written = write_report(release, against=against, limits=limits, published_at=published_at, listener=listener)
    if made := written.report:
        line = f"{release / made.name}: {size(made.bytes)}, sha256 {made.sha256}"
        output.show("Report", [line], made.to_document())
    set_outputs(manifest_sha256=written.manifest_sha256)  # the manifest lists the report

"""From a release to its readers: wheel, publish, promote, status, check, bucket setup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idc_indexer.cli.group import FOUND_PROBLEMS, main
from idc_indexer.cli.options import (
    MARKDOWN,
    argument,
    dry_run_option,
    manifest_option,
    option,
    output_options,
    published_option,
    release_argument,
    rollback_option,
    store_option,
)
from idc_indexer.cli.output import Output, note

if TYPE_CHECKING:
    from idc_indexer.api.publish import Published
    from idc_indexer.publish.status import Status


@main.command()
@release_argument
@manifest_option
@option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the wheel.")
@option("--exclude", multiple=True, metavar="INDEX", help="Index whose Parquet the wheel leaves out; may be repeated.")
@option("--partial", is_flag=True, help="Accept a wheel without idc_index or prior_versions_index.")
@published_option
def wheel(release: Path, out: Path, exclude: tuple[str, ...], partial: bool, published_at: str | None) -> None:
    """Build the Python package idc-index-data from a release.

    The release is verified first. The wheel has the Parquet of the indices whose schema says so, and the schemas and
    queries of all. PyPI accepts no file over 100 MB: a larger wheel is an error, and near that size there is a warning.

    \b
    Example:
      idc-indexer wheel release --out dist
    """
    from idc_indexer.api.publish import build_wheel
    from idc_indexer.publish.wheel import LIMIT, NEARLY

    made = build_wheel(release, out=out, exclude=exclude, published_at=published_at, partial=partial)
    if (size := made.stat().st_size) > NEARLY:
        note(f"{made.name} has {size / 1e6:.1f} MB; PyPI takes {LIMIT / 1e6:.0f} MB")
    Output().show("Data wheel", [str(made)])


@main.command()
@release_argument
@manifest_option
@store_option
@option("--promote", is_flag=True, help="Make the version `current` too.")
@rollback_option
@option("--card-only", is_flag=True, help="Renew the card of a mirror, and nothing else.")
@dry_run_option
@output_options()
def publish(
    release: Path, to: str, promote: bool, rollback: bool, card_only: bool, dry_run: bool, output: Output
) -> None:
    """Upload a release as a new version.

    Verifies the release, and writes it to <version>/release_artifacts/. A published version never changes: files that
    are there already with the same bytes are kept, other bytes are an error. To continue an interrupted upload, run the
    same command again.

    With --to hf://datasets/OWNER/NAME, a dataset on the Hugging Face Hub becomes a mirror of the release: one commit
    changes its files and its card, and gets a tag of the version.

    \b
    Example:
      idc-indexer publish release --to published
    """
    from idc_indexer.api.publish import publish_release

    done = publish_release(release, to=to, promote=promote, rollback=rollback, card_only=card_only, dry_run=dry_run)
    output.show(" and ".join(done.steps).capitalize(), [*_steps(done)], done.to_document())
    if promote and dry_run:
        note("what --promote would do is known when the version is published")


@main.command()
@argument("version")
@store_option
@rollback_option
@dry_run_option
@output_options()
def promote(version: str, to: str, rollback: bool, dry_run: bool, output: Output) -> None:
    """Make a published version `current`.

    Makes current/release_artifacts/ equal to VERSION. Every file is complete for readers at every moment. To continue
    an interrupted promotion, run the same command again. To go back to an older version, give --rollback.

    \b
    Example:
      idc-indexer promote 25.0.0 --to published
    """
    from idc_indexer.api.publish import promote_release

    done = promote_release(version, to=to, rollback=rollback, dry_run=dry_run)
    output.show("Promote", [*_steps(done)], done.to_document())


def _steps(published: Published) -> Iterator[str]:
    """A line for each object that changes, and one for each command."""
    for command, steps in published.steps.items():
        changed = [step for step in steps if step.action != "keep"]
        yield from (f"{step.action} {step.name}: {step.bytes:,} bytes" for step in changed)
        written = sum(step.bytes for step in changed if step.action != "remove")
        counts = Counter(step.action for step in steps)
        form = "{1} to {0}" if published.dry_run else "{0} {1}"
        summary = ", ".join(form.format(name, counts[name]) for name in ("create", "replace", "remove", "keep"))
        run = " (dry run)" if published.dry_run else ""
        yield f"{command} {published.version}{run}: {summary}; {written:,} bytes"


@main.command()
@store_option
@output_options()
def status(to: str, output: Output) -> None:
    """List the published versions and the state of `current`.

    Exits with 3 if `current` is not equal to a published version, or if a published version is damaged. Of a mirror on
    the Hugging Face Hub, the versions are its tags, and `current` is its branch `main`.

    \b
    Example:
      idc-indexer status --to published
    """
    from idc_indexer.api.publish import published_status

    found = published_status(to=to)
    output.show(f"Versions at {to}", [*_versions(found)], found.to_document())
    raise SystemExit(0 if found.ok else FOUND_PROBLEMS)


def _versions(status: Status) -> Iterator[str]:
    for version in status.versions:
        yield f"{version.version}: {version.state}"
        yield from (f"    {name} {problem}" for name, problem in version.problems.items())
    state = "unfinished: promote it again" if status.promoting else "damaged" if status.problems else "OK"
    yield f"current: {status.current}, {state}" if status.current else "current: no version was promoted"
    yield from (f"    {name} {problem}" for name, problem in status.problems.items())


@main.command()
@argument("url")
@option("--deep", is_flag=True, help="Download every file, and compare its SHA-256.")
@option(
    "--rebuilt",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A release folder, perhaps of a few indices: its files must be the published ones, by SHA-256.",
)
@output_options(markdown=MARKDOWN)
def check(url: str, deep: bool, rebuilt: Path | None, output: Output) -> None:
    """Test published files over HTTP, as readers use them.

    URL is the folder of the files, such as .../current/release_artifacts/. The command sends no credentials. It tests
    every file of the manifest: public read, size, content type, cache headers, range requests and cross-origin
    requests. It compares the SHA-256 of small files, or with --deep of all. URL may also be a mirror,
    hf://datasets/OWNER/NAME, whose files and card are tested.

    Prints one line for each problem, and exits with 3 if there are any.

    \b
    Example:
      idc-indexer check https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts/
    """
    from idc_indexer.api.publish import check_published

    problems = check_published(url, deep=deep, rebuilt=rebuilt)
    lines = [str(problem) for problem in problems] or [f"{url}: OK"]
    output.show(f"Check of {url}", lines, {"problems": [vars(problem) for problem in problems]})
    raise SystemExit(FOUND_PROBLEMS if problems else 0)


@main.group()
def bucket() -> None:
    """Show or set what a bucket needs for publishing."""


@bucket.command("setup")
@option("--to", required=True, metavar="URI", help="The bucket: gs://bucket.")
@option("--apply", is_flag=True, help="Change the settings that are wrong; without it, they are only shown.")
@output_options()
def bucket_setup(to: str, apply: bool, output: Output) -> None:
    """Show or set public read, cross-origin requests, uniform access.

    With --apply, changes only the settings that readers need and the bucket lacks. Exits with 3 if one is missing and
    was not set.

    \b
    Example:
      idc-indexer bucket setup --to gs://idc-index-data-artifacts --apply
    """
    from idc_indexer.publish.bucket import setup

    settings = setup(to, apply)
    changed = "set now" if apply else "missing: {}"
    lines = [f"{setting.name}: {'set' if setting.good else changed.format(setting.change)}" for setting in settings]
    output.show(f"Settings of {to}", lines, [vars(setting) for setting in settings])
    raise SystemExit(0 if apply or all(setting.good for setting in settings) else FOUND_PROBLEMS)

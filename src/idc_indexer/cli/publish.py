"""From a release to its readers: publish, promote, status, check, bucket setup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from idc_indexer.cli.options import (
    FOUND_PROBLEMS,
    Command,
    json_option,
    main,
    markdown_option,
    release_argument,
    show,
)
from idc_indexer.errors import UsageError


def _store_option(command: Command) -> Command:
    return click.option(
        "--to", required=True, metavar="URI", help="Where releases are published: gs://bucket[/prefix], or a folder."
    )(command)


def _dry_run_option(command: Command) -> Command:
    return click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")(command)


def _rollback_option(command: Command) -> Command:
    return click.option("--rollback", is_flag=True, help="Let current become older than it is.")(command)


@main.command()
@release_argument
@_store_option
@click.option("--promote", "also_promote", is_flag=True, help="Make it current too.")
@_rollback_option
@_dry_run_option
@json_option
def publish(release: Path, to: str, also_promote: bool, rollback: bool, dry_run: bool, as_json: bool) -> None:
    """Publish the release in DIR as <version>/release_artifacts/, after verifying it.

    A published version never changes: what is there already with the same bytes is kept, with other bytes it is an
    error. What was interrupted is completed by the same command.

    \b
    Example:
      idc-indexer publish release --to published
    """
    from idc_indexer.publish.publish import publish as run
    from idc_indexer.publish.stores import open_store
    from idc_indexer.release.manifest import Release

    if rollback and not also_promote:
        raise UsageError("--rollback is for what becomes current", "Give --promote too.")
    store = open_store(to)
    steps = {"publish": run(release, store, dry_run=dry_run)}
    version = Release.open(release).release_version
    if also_promote and not dry_run:
        from idc_indexer.publish.promote import promote

        steps["promote"] = promote(version, store, rollback=rollback)
    _print_steps(steps, version, dry_run, as_json)
    if also_promote and dry_run:
        click.echo("what --promote would do is known when the version is published", err=True)


@main.command()
@click.argument("version")
@_store_option
@_rollback_option
@_dry_run_option
@json_option
def promote(version: str, to: str, rollback: bool, dry_run: bool, as_json: bool) -> None:
    """Make current/release_artifacts/ equal to the published VERSION.

    Readers find every file whole at every moment. What was interrupted is completed by the same command. An older
    version is the way back, with --rollback.

    \b
    Example:
      idc-indexer promote 25.0.0 --to published
    """
    from idc_indexer.publish.promote import promote as run
    from idc_indexer.publish.stores import open_store

    steps = {"promote": run(version, open_store(to), rollback=rollback, dry_run=dry_run)}
    _print_steps(steps, version, dry_run, as_json)


@main.command()
@_store_option
@json_option
def status(to: str, as_json: bool) -> None:
    """List the published versions, show which one is current, and report objects that another program changed.

    Exits with 3 if current does not equal a published version, or if a published version is damaged.

    \b
    Example:
      idc-indexer status --to published
    """
    from idc_indexer.publish.status import status as run
    from idc_indexer.publish.stores import open_store

    found = run(open_store(to))
    lines = []
    for version in found.versions:
        lines.append(f"{version.version}: {version.state}")
        lines += [f"    {name} {problem}" for name, problem in version.problems.items()]
    how = "unfinished: promote it again" if found.promoting else "damaged" if found.problems else "OK"
    lines.append(f"current: {found.current}, {how}" if found.current else "current: no version was promoted")
    lines += [f"    {name} {problem}" for name, problem in found.problems.items()]
    show(f"Versions at {to}", lines, found.to_document(), as_json)
    if not found.ok:
        raise SystemExit(FOUND_PROBLEMS)


@main.command()
@click.argument("url")
@click.option("--deep", is_flag=True, help="Download every file whole, and compare its SHA-256.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A release, such as one of a few indices: what is in it must be what is published, by SHA-256.",
)
@json_option
@markdown_option
def check(url: str, deep: bool, against: Path | None, as_json: bool, in_markdown: bool) -> None:
    """Check what is published at URL as its readers see it: over HTTP, without credentials.

    URL is the folder of the files, such as .../current/release_artifacts/. Every file of its manifest is asked
    for: public read, size, content type, cache headers, range requests, cross-origin requests; and what is small,
    or with --deep everything, is compared with its SHA-256.
    Prints one line for each problem and exits with 3 when there are any.

    \b
    Example:
      idc-indexer check https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts/
    """
    from idc_indexer.publish.public_check import check as run

    problems = run(url, deep, against)
    lines = [str(problem) for problem in problems] or [f"{url}: OK"]
    show(f"Check of {url}", lines, {"problems": [vars(problem) for problem in problems]}, as_json, in_markdown)
    if problems:
        raise SystemExit(FOUND_PROBLEMS)


@main.group()
def bucket() -> None:
    """Set up a bucket for publishing."""


@bucket.command("setup")
@click.option("--to", required=True, metavar="URI", help="The bucket: gs://bucket.")
@click.option("--apply", "apply_it", is_flag=True, help="Set what is missing; without it, it is only shown.")
@json_option
def bucket_setup(to: str, apply_it: bool, as_json: bool) -> None:
    """Show, and with --apply set, what readers need: public read, cross-origin requests, uniform access.

    Nothing else is changed. Exits with 3 when something is missing and was not set.

    \b
    Example:
      idc-indexer bucket setup --to gs://idc-index-data-artifacts --apply
    """
    from idc_indexer.publish.bucket import setup

    settings = setup(to, apply_it)
    changed = "set now" if apply_it else "missing: {}"
    lines = [f"{s.name}: {'set' if s.good else changed.format(s.change)}" for s in settings]
    show(f"Settings of {to}", lines, [vars(setting) for setting in settings], as_json)
    if not apply_it and not all(setting.good for setting in settings):
        raise SystemExit(FOUND_PROBLEMS)


def _print_steps(steps: dict[str, Any], version: str, dry_run: bool, as_json: bool) -> None:
    """What was done with each object, and in all."""
    lines = []
    for command, of in steps.items():
        changed = [step for step in of if step.action != "keep"]
        lines += [f"{step.action} {step.name}: {step.bytes:,} bytes" for step in changed]
        written = sum(step.bytes for step in changed if step.action != "remove")
        counts = {
            action: [step.action for step in of].count(action) for action in ("create", "replace", "remove", "keep")
        }
        summary = ", ".join(
            f"{count} to {action}" if dry_run else f"{action} {count}" for action, count in counts.items()
        )
        lines.append(f"{command} {version}{' (dry run)' if dry_run else ''}: {summary}; {written:,} bytes")
    done = {command: [vars(step) for step in of] for command, of in steps.items()}
    show(" and ".join(steps).capitalize(), lines, {"version": version, "dry_run": dry_run, **done}, as_json)

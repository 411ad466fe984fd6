"""From a release to its readers: wheel, publish, promote, adopt, withdraw, status, check, doctor, bucket setup."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from idc_indexer.api.options import SETUP_CHECKS
from idc_indexer.cli import completion
from idc_indexer.cli.group import FOUND_PROBLEMS, main
from idc_indexer.cli.options import (
    MARKDOWN,
    argument,
    dry_run_option,
    engine_options,
    manifest_option,
    option,
    output_options,
    promotion_options,
    published_option,
    release_argument,
    store_option,
)
from idc_indexer.cli.output import Output, aggregated, note, size
from idc_indexer.cli.progress import show_progress

if TYPE_CHECKING:
    from idc_indexer.api.publish import Published
    from idc_indexer.publish.adopt import Adoption
    from idc_indexer.publish.status import Status


@main.command()
@release_argument
@manifest_option
@option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the wheel.")
@option(
    "--exclude",
    multiple=True,
    metavar="INDEX",
    shell_complete=completion.indices,
    help="Index whose Parquet the wheel leaves out; may be repeated.",
)
@option("--partial", is_flag=True, help="Accept a wheel without idc_index or prior_versions_index.")
@published_option
@output_options()
def wheel(
    release: Path, out: Path, exclude: tuple[str, ...], partial: bool, published_at: str | None, output: Output
) -> None:
    """Build the Python package idc-index-data from a release.

    The release is verified first. The wheel has the Parquet of the indices whose schema says so, and the schemas and
    queries of all. PyPI accepts no file over 100 MB: a larger wheel is an error, and near that size there is a warning.

    \b
    Example:
      idc-indexer wheel release --out dist
    """
    from idc_indexer import files
    from idc_indexer.api.publish import build_wheel
    from idc_indexer.publish.wheel import LIMIT, NEARLY

    made = build_wheel(release, out=out, exclude=exclude, published_at=published_at, partial=partial)
    bytes_ = made.stat().st_size
    if bytes_ > NEARLY:
        note(f"{made.name} has {size(bytes_)}; PyPI takes {size(LIMIT)}")
    output.show("Data wheel", [str(made)], {"path": str(made), "bytes": bytes_, "sha256": files.sha256(made)})


@main.command()
@release_argument
@manifest_option
@store_option
@option("--promote", is_flag=True, help="Make the version `current` too.")
@promotion_options
@option("--card-only", is_flag=True, help="Renew the card of a mirror, and nothing else.")
@dry_run_option
@output_options()
def publish(
    release: Path, to: str, promote: bool, allowed: dict[str, bool], card_only: bool, dry_run: bool, output: Output
) -> None:
    """Upload a release as a new version.

    Verifies the release, and writes it to <version>/release_artifacts/, and then versions.json and llms.txt at the
    root. A published version never changes: files that are there already with the same bytes are kept, other bytes are
    an error. To continue an interrupted upload, run the same command again.

    --promote does not look for regressions since `current`: run `verify DIR --against current` before.

    With --to hf://datasets/OWNER/NAME, a dataset on the Hugging Face Hub becomes a mirror of the release: one commit
    changes its files and its card, and gets a tag of the version.

    \b
    Example:
      idc-indexer publish release --to published
    """
    from idc_indexer.api.publish import publish_release

    if promote:
        note("--promote does not look for regressions: `idc-indexer verify DIR --against current` does")
    with show_progress() as listener:
        done = publish_release(
            release, to=to, promote=promote, card_only=card_only, dry_run=dry_run, listener=listener, **allowed
        )
    output.show(" and ".join(done.steps).capitalize(), [*_steps(done)], done.to_document())
    if promote and dry_run:
        note("what --promote would do is known when the version is published")


@main.command()
@argument("version", shell_complete=completion.versions)
@store_option
@promotion_options
@dry_run_option
@output_options()
def promote(version: str, to: str, allowed: dict[str, Any], dry_run: bool, output: Output) -> None:
    """Make a published version `current`.

    Makes current/release_artifacts/ equal to VERSION. Every file is complete for readers at every moment. To continue
    an interrupted promotion, run the same command again. To go back to an older version, give --rollback.

    \b
    Example:
      idc-indexer promote 25.0.0 --to published
    """
    from idc_indexer.api.publish import promote_release

    with show_progress() as listener:
        done = promote_release(version, to=to, dry_run=dry_run, listener=listener, **allowed)
    output.show("Promote", [*_steps(done)], done.to_document())
    if allowed["rollback"] and done.replaced and not (dry_run or done.replaced_withdrawn):
        note(f"If {done.replaced} is bad, say so to those who come later:")
        note(f"    idc-indexer withdraw {done.replaced} --to {shlex.quote(to)} --reason 'WHY'")


def _steps(published: Published) -> Iterator[str]:
    """A line for each object that changes, and one for each command."""
    for command, steps in published.steps.items():
        changed = [step for step in steps if step.action != "keep"]
        yield from (f"{step.action} {step.name}: {size(step.bytes)}" for step in changed)
        written = sum(step.bytes for step in changed if step.action != "remove")
        counts = Counter(step.action for step in steps)
        form = "{1} to {0}" if published.dry_run else "{0} {1}"
        summary = ", ".join(form.format(name, counts[name]) for name in ("create", "replace", "remove", "keep"))
        run = " (dry run)" if published.dry_run else ""
        yield f"{command} {published.version}{run}: {summary}; {size(written)}"


@main.command()
@argument("version")
@store_option
@dry_run_option
@output_options()
def adopt(version: str, to: str, dry_run: bool, output: Output) -> None:
    """Record a version that another tool published.

    For a bucket that had releases before this toolkit. Reads all files of VERSION and checks them: Parquet against its
    sidecar, its footer and its version, schemas, and the manifest if there is one. Then writes publication.json beside
    them, and versions.json and llms.txt at the root. `promote` can then replace `current` if it has the same files, and
    bring them back.

    \b
    Example:
      idc-indexer adopt 25.0.5 --to published
    """
    from idc_indexer.api.publish import adopt_version

    with show_progress() as listener:
        done = adopt_version(version, to=to, dry_run=dry_run, listener=listener)
    output.show("Adopt", [*_adoption(done, dry_run)], {**vars(done), "dry_run": dry_run})


def _adoption(done: Adoption, dry_run: bool) -> Iterator[str]:
    verb = "would be adopted" if dry_run else "adopted" if done.new else "is recorded already"
    yield f"{done.version} {verb}: {done.files} files, {size(done.bytes)}"
    if done.without_sidecar:
        yield f"    without a sidecar, so their digests are as found: {', '.join(done.without_sidecar)}"
    if done.is_current:
        yield f"    `current` has the same files: `promote {done.version} --rollback` will bring them back"


@main.command()
@argument("version")
@store_option
@option("--reason", required=True, metavar="TEXT", help="Why nobody should use the version, in one line.")
@output_options()
def withdraw(version: str, to: str, reason: str, output: Output) -> None:
    """Mark a published version as bad.

    Writes VERSION/withdrawal.json; the files stay, for those who pinned the version. versions.json, `status`, `check`,
    `diff` and `report` say that the version is withdrawn, and `promote` refuses it without --allow-withdrawn. To take
    the mark back, remove that file, and promote the current version again.

    \b
    Example:
      idc-indexer withdraw 25.1.0 --to published --reason "ct_index lacks the series of nlst"
    """
    from idc_indexer.api.publish import withdraw_version

    withdraw_version(version, reason=reason, to=to)
    output.show("Withdraw", [f"{version} is withdrawn: {reason}"], {"version": version, "reason": reason})


@main.command()
@store_option
@output_options()
def status(to: str, output: Output) -> None:
    """List the published versions and the state of `current`.

    Only reads. Exits with 3 if `current` is not equal to a published version, or to one that is withdrawn, if a
    published version is damaged, or if versions.json or llms.txt is missing or out of date.

    Of a mirror on the Hugging Face Hub, the versions are its tags, and `current` is its branch `main`.

    \b
    Example:
      idc-indexer status --to published
    """
    from idc_indexer.api.publish import published_status

    with show_progress() as listener:
        found = published_status(to=to, listener=listener)
    output.show(f"Versions at {to}", [*_versions(found)], found.to_document())
    raise SystemExit(0 if found.ok else FOUND_PROBLEMS)


def _versions(status: Status) -> Iterator[str]:
    for version in status.versions:
        withdrawn = f", withdrawn: {version.withdrawn}" if version.withdrawn else ""
        yield f"{version.version}: {version.state}{withdrawn}"
        yield from (f"    {line}" for line in aggregated(version.problems.items()))
    yield f"current: {_current(status)}"
    yield from (f"    {line}" for line in aggregated(status.problems.items()))
    for name, problem in status.root_files.items():
        yield f"{name} {problem}: each `publish`, `promote`, `adopt` or `withdraw` renews it"


def _current(status: Status) -> str:
    """The state of `current` in words."""
    if not status.current:
        return "damaged" if status.problems else "no version was promoted"
    if status.promoting:
        return f"{status.current}, unfinished: promote it again"
    state = "damaged" if status.problems else "OK"
    if not status.recorded:
        states = {version.version: version.state for version in status.versions}
        adopted = states[status.current] != "unrecorded"
        hint = "" if adopted else f": `idc-indexer adopt {status.current}` records it"
        state = f"the same files, not promoted by this toolkit{hint}"
    return f"{status.current}, {state}{', withdrawn' if status.withdrawn else ''}"


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
    requests. It compares the SHA-256 of small files, or with --deep of all, and looks the version up in versions.json.
    Where another tool published the files, it tests those that have a sidecar. URL may also be a mirror,
    hf://datasets/OWNER/NAME, whose files and card are tested.

    Prints one line for each problem, or for each cause of many, and exits with 3 if there are any.

    \b
    Example:
      idc-indexer check https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts/
    """
    from idc_indexer.api.publish import check_published

    with show_progress() as listener:
        problems = check_published(url, deep=deep, rebuilt=rebuilt, listener=listener)
    lines = aggregated((problem.file, problem.message) for problem in problems) or [f"{url}: OK"]
    output.show(f"Check of {url}", lines, {"problems": [vars(problem) for problem in problems]})
    raise SystemExit(FOUND_PROBLEMS if problems else 0)


@main.command()
@engine_options("source", "project", "location")
@option(
    "--to",
    metavar="URI",
    help="Where releases are published: gs://bucket[/prefix], a folder, hf://datasets/OWNER/NAME.",
)
@option("--published-at", metavar="URL", help="The public address of that; a mirror needs none.")
@option("--release-version", help="Version of the release to be made; the source must have its IDC release.")
@option("--first", is_flag=True, help="Nothing is published yet.")
@option("--pypi-url", metavar="URL", help="Address of PyPI, if it is not the public one.")
@option("--skip", multiple=True, type=click.Choice(SETUP_CHECKS), help="Check that is not made; may be repeated.")
@output_options()
def doctor(output: Output, skip: tuple[str, ...], **given: Any) -> None:
    """Check that all that a release needs is in place.

    Checks the source and its credentials, the store or mirror, the rights of the account that is logged in, what
    readers find at the public address, and the project on PyPI. It writes nothing.

    Prints one line for each check, and exits with 3 if something is missing.

    \b
    Example:
      idc-indexer doctor --to gs://my-bucket --published-at https://storage.googleapis.com/my-bucket
    """
    from idc_indexer.api.doctor import check_setup

    checks = check_setup(skip=skip, **given)
    lines = [f"{one.name}: {'OK' if one.ok else 'not OK'}: {one.message}. {one.advice}".rstrip(". ") for one in checks]
    document = {"ok": all(one.ok for one in checks), "checks": [vars(one) for one in checks]}
    output.show("What a release needs", lines, document)
    raise SystemExit(0 if document["ok"] else FOUND_PROBLEMS)


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

"""Mirror a release as a dataset on the Hugging Face Hub: the same files, byte for byte, and a card.

All files of a release, its card, and the removal of files that it lacks are one commit on `main`, which fails if
another program has committed since; so readers see one release or the other, never a mix. Then the commit gets a tag
of the version, which never moves. A command that was interrupted can be run again: it compares with what is there,
and does what is left. Which changes are needed is decided by `plan_mirror`, which is pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from packaging.version import InvalidVersion, Version

from idc_indexer import documents
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import MAX_WAIT
from idc_indexer.publish.public_check import SMALL, differences
from idc_indexer.publish.records import WORKERS, Step
from idc_indexer.publish.release_source import read_release
from idc_indexer.publish.status import Status, VersionStatus
from idc_indexer.publish.stores.hub import BusyError, HubDataset, HubFile, digests
from idc_indexer.release.descriptions import card, describe
from idc_indexer.release.manifest import MANIFEST, PUBLISHED, FileEntry, Release
from idc_indexer.release.verify import Problem, open_valid

ATTEMPTS = 3
"""How often a mirror is begun: the client itself repeats most requests, but not commits and tags."""
FIRST_WAIT = 5.0
"""Seconds before the second attempt, if the Hub asks for no other time; doubled before the third."""


@dataclass(frozen=True)
class LocalContent:
    """A file of the release, or its card: its size, and the digests that the Hub may have of it."""

    data: Path | bytes
    size: int
    digests: frozenset[str]

    @classmethod
    def of(cls, data: Path | bytes) -> LocalContent:
        """That of a file or of bytes."""
        return cls(data, len(data) if isinstance(data, bytes) else data.stat().st_size, digests(data))

    def same(self, found: HubFile | None) -> bool:
        """Whether a file on the Hub has the same bytes."""
        return found is not None and found.bytes == self.size and found.digest in self.digests


@dataclass(frozen=True)
class MirrorState:
    """A dataset as it was when it was read.

    Attributes:
        head: commit of `main`; `files` are those of this commit, and `release` that of its manifest.
        release: None if it has no valid manifest.
        tagged: the files of the tag of the version that is to be mirrored; None if there is no such tag.
    """

    head: str
    files: Mapping[str, HubFile]
    release: Release | None
    tagged: Mapping[str, HubFile] | None


@dataclass(frozen=True)
class MirrorPlan:
    """What is to be done: one commit after `parent`, if a file changes, and then the tag, if it is to be created.

    Attributes:
        files: one step for each file, by name.
        tag: None if only the card is renewed.
    """

    parent: str
    files: tuple[Step, ...]
    tag: Step | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which readers see them."""
        return (*self.files, self.tag) if self.tag else self.files

    @property
    def written(self) -> list[str]:
        """Names of the files that the commit writes."""
        return [step.name for step in self.files if step.action in ("create", "replace")]

    @property
    def removed(self) -> list[str]:
        """Names of the files that the commit removes."""
        return [step.name for step in self.files if step.action == "remove"]


def plan_mirror(
    version: str, local: Mapping[str, LocalContent], state: MirrorState, *, rollback: bool = False
) -> MirrorPlan:
    """The changes that make a dataset a mirror of a release.

    Args:
        local: the files of the release and its card, by name.
        rollback: whether `main` may go back to an older version.

    Raises:
        UsageError: `main` has a newer version, and `rollback` is not set.
        IndexerError: the dataset is no mirror, or has another release of this version.
    """
    _refuse_what_is_no_mirror(state)
    _refuse_another_release(version, local, state)
    if state.release and not rollback and Version(version) < Version(state.release.release_version):
        raise UsageError(
            f"{version} is older than {state.release.release_version}, which the dataset has",
            "Give --rollback to move back to the older version.",
        )
    names = sorted(local.keys() | {name for name in state.files if _is_ours(name)})
    tag = Step("create" if state.tagged is None else "keep", f"refs/tags/{version}", 0)
    return MirrorPlan(state.head, tuple(_step(name, local.get(name), state) for name in names), tag)


def plan_card(version: str, local: Mapping[str, LocalContent], state: MirrorState) -> MirrorPlan:
    """The change that renews the card of a mirror. Arguments and errors as those of `plan_mirror`."""
    if not local[MANIFEST].same(state.files.get(MANIFEST)):
        found = state.release.release_version if state.release else "no release"
        raise IndexerError(
            f"the dataset has {found}, not this release {version}, so its card would describe other files",
            "Publish the release, without --card-only.",
        )
    return MirrorPlan(state.head, (_step(card.NAME, local[card.NAME], state),), None)


def _is_ours(name: str) -> bool:
    """Whether a file can be one of a mirror; those whose names begin with a dot belong to git and the Hub."""
    return not name.startswith(".")


def _step(name: str, wanted: LocalContent | None, state: MirrorState) -> Step:
    found = state.files.get(name)
    if wanted is None:
        return Step("remove", name, state.files[name].bytes)
    if found is None:
        return Step("create", name, wanted.size)
    return Step("keep" if wanted.same(found) else "replace", name, wanted.size)


def _refuse_what_is_no_mirror(state: MirrorState) -> None:
    others = sorted(name for name in state.files if _is_ours(name) and name != card.NAME)
    if others and not state.release:
        raise IndexerError(
            f"the dataset is not a mirror of a release: it has {len(others)} files, such as {others[0]}, and no valid "
            f"{MANIFEST}",
            "Publishing removes all files that the release lacks. Give another dataset, or remove these files first.",
        )


def _refuse_another_release(version: str, local: Mapping[str, LocalContent], state: MirrorState) -> None:
    of_version = [state.tagged] if state.tagged is not None else []
    if state.release and state.release.release_version == version:
        of_version.append(state.files)
    if any(not local[MANIFEST].same(found.get(MANIFEST)) for found in of_version):
        raise IndexerError(
            f"the dataset has another release of version {version}: its {MANIFEST} differs",
            "A published version never changes: give the release another version.",
        )


def mirror(
    path: Path,
    dataset: HubDataset,
    *,
    rollback: bool = False,
    card_only: bool = False,
    dry_run: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[Step, ...]:
    """Make a dataset a mirror of a release, and read back what it has.

    Args:
        path: the release folder; it is verified first.
        rollback: allow `main` to go back to an older version.
        card_only: renew the card, and nothing else.
        dry_run: write nothing.

    Returns:
        One step for each file and for the tag, as planned at the beginning.

    Raises:
        UsageError: as `plan_mirror` does.
        IndexerError: the release is not valid, as `plan_mirror` does, or the Hub failed; in that case, the same
            command continues.
    """
    release = open_valid(path)
    work = _Work(dataset, release, rollback, card_only)
    first: tuple[Step, ...] = ()
    for attempt in range(ATTEMPTS):
        try:
            plan, local = work.plan()
            first = first or plan.steps
            if not dry_run:
                work.carry_out(plan, local)
            return first
        except BusyError as error:
            if attempt == ATTEMPTS - 1 or error.wait > MAX_WAIT:
                raise
            sleep(error.wait or FIRST_WAIT * 2**attempt)
    raise AssertionError  # pragma: no cover


class _Work:
    """One release that is mirrored to one dataset."""

    def __init__(self, dataset: HubDataset, release: Release, rollback: bool, card_only: bool) -> None:
        self._dataset, self._release, self._rollback, self._card_only = dataset, release, rollback, card_only
        self._description = describe(release, release.published_at or PUBLISHED)
        names = [*(file.name for file in release.files), MANIFEST]
        self._local = {name: LocalContent.of(release.path / name) for name in names}

    def plan(self) -> tuple[MirrorPlan, Mapping[str, LocalContent]]:
        """What is to be done, and the contents of all files."""
        version = self._release.release_version
        head, tags = self._dataset.refs()
        found = self._dataset.files(head)
        tagged = self._dataset.files(tags[version]) if version in tags else None
        state = MirrorState(head, found, _release(self._dataset, head, found), tagged)
        prior = _prior(self._dataset, tags, version)
        text = card.text(self._description, self._dataset.name, prior).encode()
        local = {**self._local, card.NAME: LocalContent.of(text)}
        try:
            if self._card_only:
                return plan_card(version, local, state), local
            return plan_mirror(version, local, state, rollback=self._rollback), local
        except IndexerError as error:
            raise type(error)(f"{self._dataset.uri}: {error.message}", error.hint) from error

    def carry_out(self, plan: MirrorPlan, local: Mapping[str, LocalContent]) -> None:
        """Commit, read back, tag."""
        version, commit = self._release.release_version, plan.parent
        if plan.written or plan.removed:
            message = f"{'Card of release' if self._card_only else 'Release'} {version}"
            written = {name: local[name].data for name in plan.written}
            commit = self._dataset.commit(plan.parent, message, written, plan.removed)
            self._read_back(commit, plan, local)
        if plan.tag and plan.tag.action == "create":
            self._dataset.tag(version, commit)

    def _read_back(self, commit: str, plan: MirrorPlan, local: Mapping[str, LocalContent]) -> None:
        found = self._dataset.files(commit)
        wrong = [name for name in plan.written if not local[name].same(found.get(name))]
        wrong += [name for name in plan.removed if name in found]
        if wrong:
            raise IndexerError(
                f"{self._dataset.uri}: the commit {commit} does not have these files of the release: "
                f"{', '.join(sorted(wrong))}",
                "They changed during the upload, or the .gitignore of the dataset names them. Verify the release, and "
                "publish it again.",
            )


def _prior(dataset: HubDataset, tags: Mapping[str, str], version: str) -> Release | None:
    """The newest release before a version that has a tag, whatever `main` has: each run then makes the same card."""
    older = [tags[name] for name in reversed(_versions(tags)) if Version(name) < Version(version)]
    return next(filter(None, (_release(dataset, commit, dataset.files(commit)) for commit in older)), None)


def _versions(tags: Mapping[str, str]) -> list[str]:
    """The tags that are versions, the oldest first."""
    found = {}
    for name in tags:
        with suppress(InvalidVersion):
            found[name] = Version(name)
    return sorted(found, key=found.__getitem__)


def _release(dataset: HubDataset, commit: str, found: Mapping[str, HubFile]) -> Release | None:
    """The release whose manifest a commit has; None without a valid one."""
    if MANIFEST not in found:
        return None
    data = dataset.read(commit, found[MANIFEST])
    try:
        release = Release.parse(documents.parse(data, "manifest", MANIFEST))
        Version(release.release_version)
    except (IndexerError, InvalidVersion):
        return None
    return release


# --- What a mirror has ------------------------------------------------------------------------------------------------


def mirror_status(dataset: HubDataset) -> Status:
    """The tags of a mirror, and whether `main` is equal to one of them, with a card of that release.

    Raises:
        IndexerError: the Hub refuses to list it.
    """
    head, tags = dataset.refs()
    trees = {version: dataset.files(tags[version]) for version in _versions(tags)}
    versions = tuple(_version(dataset, version, tags[version], tree) for version, tree in trees.items())
    found = dataset.files(head)
    if not (release := _release(dataset, head, found)):
        return Status(versions, None, recorded=True, promoting=False, problems={})
    version = release.release_version
    problems = _problems(release, found, trees.get(version)) | _card_problems(dataset, head, found)
    if version not in tags:
        problems[f"refs/tags/{version}"] = "is missing: publish the release again"
    return Status(versions, version, recorded=True, promoting=False, problems=problems)


def _version(dataset: HubDataset, version: str, commit: str, found: Mapping[str, HubFile]) -> VersionStatus:
    if not (release := _release(dataset, commit, found)):
        return VersionStatus(version, "unrecorded", {})
    problems = _problems(release, found, None)
    if release.release_version != version:
        problems[MANIFEST] = f"is of {release.release_version}"
    return VersionStatus(version, "damaged" if problems else "valid", problems)


def _problems(release: Release, found: Mapping[str, HubFile], tagged: Mapping[str, HubFile] | None) -> dict[str, str]:
    """The files that are not those of a manifest.

    The Hub has a SHA-256 of large files only. Of others it has a digest of git, which that of the tag stands for.
    """
    expected = {file.name: file for file in release.files}
    wrong = {name: _problem(file, found.get(name)) for name, file in expected.items()}
    for name in expected if tagged else ():
        if not wrong[name] and tagged and found[name] != tagged.get(name):
            wrong[name] = f"has other content than the tag {release.release_version}"
    strays = {name for name in found if _is_ours(name)} - expected.keys() - {MANIFEST, card.NAME}
    return {name: problem for name, problem in wrong.items() if problem} | dict.fromkeys(
        sorted(strays), f"is not of {release.release_version}"
    )


def _problem(file: FileEntry, found: HubFile | None) -> str:
    if found is None:
        return "is missing"
    if found.bytes != file.bytes:
        return f"has {found.bytes:,} bytes, in the manifest {file.bytes:,}"
    if found.digest.startswith("sha256:") and found.digest != f"sha256:{file.sha256}":
        return f"has {found.digest}, in the manifest {file.sha256}"
    return ""


def _card_problems(dataset: HubDataset, commit: str, found: Mapping[str, HubFile]) -> dict[str, str]:
    """Whether the card names the manifest beside it."""
    if card.NAME not in found:
        return {card.NAME: "is missing: publish with --card-only"}
    text = dataset.read(commit, found[card.NAME]).decode(errors="replace")
    digest = sha256(dataset.read(commit, found[MANIFEST])).hexdigest()
    return {} if digest in text else {card.NAME: "is stale, it is of another release: publish with --card-only"}


def check_mirror(dataset: HubDataset, deep: bool = False, against: Path | None = None) -> list[Problem]:
    """Check `main` of a mirror as readers see it: download its small files, and compare all with the manifest.

    Args:
        dataset: opened without a token, as readers do.
        deep: also download large files, whose SHA-256 is otherwise that of the Hub.
        against: a release, perhaps of a few indices only, whose files must be the mirrored ones.

    Returns:
        Every problem, by file.

    Raises:
        IndexerError: the Hub refuses a request, or there is no release at `against`.
    """
    rebuilt = read_release(str(against)) if against else None
    head, _ = dataset.refs()
    found = dataset.files(head)
    if not (release := _release(dataset, head, found)):
        return [Problem(MANIFEST, "is missing, or not a manifest")]
    problems = _problems(release, found, None) | _card_problems(dataset, head, found)
    compared = [file for file in release.files if file.name not in problems]
    wanted = [file for file in compared if deep or file.bytes <= SMALL or found[file.name].digest.startswith("git:")]

    def download(file: FileEntry) -> Iterator[Problem]:
        digest = sha256(dataset.read(head, found[file.name])).hexdigest()
        if digest != file.sha256:
            yield Problem(file.name, f"is corrupted: it has SHA-256 {digest}, in the manifest {file.sha256}")

    with ThreadPoolExecutor(WORKERS) as pool:
        downloaded = [problem for one in pool.map(lambda file: list(download(file)), wanted) for problem in one]
    listed = [Problem(name, problem) for name, problem in problems.items()]
    return [*listed, *downloaded, *(differences(rebuilt, release, release.files) if rebuilt else ())]

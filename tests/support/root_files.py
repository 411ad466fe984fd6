"""What `versions.json` must say, worked out from the bytes of a store alone, by no code of the toolkit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.emulators.places import Seen

VERSIONS, LLMS = "versions.json", "llms.txt"
ROOT = {VERSIONS, LLMS}


def record(seen: Mapping[str, Seen], name: str) -> dict[str, Any]:
    """A record; empty if it is missing or damaged."""
    try:
        document: dict[str, Any] = json.loads(seen[name].content)
        document["release_version"], document["format_version"]
    except (KeyError, ValueError):
        return {}
    return document


def complete_versions(seen: Mapping[str, Seen]) -> list[str]:
    """The versions all of whose recorded files are there, the oldest first; of versions without a suffix."""
    found = []
    for version in {name.partition("/")[0] for name in seen if re.match(r"\d+\.\d+\.\d+/", name)}:
        files = record(seen, f"{version}/publication.json").get("files")
        if files and all(digest(seen, f"{version}/release_artifacts/{one['name']}") == one["sha256"] for one in files):
            found.append(version)
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def digest(seen: Mapping[str, Seen], name: str) -> str:
    """The SHA-256 of an object; empty if it is missing."""
    return hashlib.sha256(seen[name].content).hexdigest() if name in seen else ""


def truth(seen: Mapping[str, Seen]) -> dict[str, Any]:
    """The content of `versions.json` if it tells the truth."""
    versions = []
    for version in complete_versions(seen):
        manifest = seen.get(f"{version}/release_artifacts/manifest.json")
        entry = {
            "release_version": version,
            "idc_version": int(version.partition(".")[0]),
            "idc_release_date": json.loads(manifest.content).get("idc_release_date") if manifest else None,
            "manifest_sha256": hashlib.sha256(manifest.content).hexdigest() if manifest else None,
            "withdrawn": record(seen, f"{version}/withdrawal.json").get("reason"),
        }
        versions.append({key: value for key, value in entry.items() if value is not None})
    current = current_version(seen)
    return {"format_version": 1, **({"current": current} if current else {}), "versions": versions}


def current_version(seen: Mapping[str, Seen]) -> str | None:
    """The version that the record of `current` names, or whose files `current` has, if it is complete."""
    complete = complete_versions(seen)
    if promoted := record(seen, "current/promotion.json"):
        return promoted["release_version"] if promoted["release_version"] in complete else None
    now, *others = (
        {n.partition("/")[2]: found.content for n, found in seen.items() if n.startswith(f"{of}/release_artifacts/")}
        for of in ("current", *complete)
    )
    return next((version for version, files in reversed([*zip(complete, others, strict=True)]) if files == now), None)


def tells_the_truth(seen: Mapping[str, Seen]) -> None:
    """`versions.json` says what the store has; a store that has no complete version needs none."""
    expected = truth(seen)
    if expected["versions"] or VERSIONS in seen:
        assert json.loads(seen[VERSIONS].content) == expected
        text = seen[LLMS].content.decode()
        for version in expected["versions"][-1:]:
            assert ("withdrawn" in version) or f"\n## {version['release_version']}: IDC release" in text
        assert (f"\n## current, which is {expected.get('current')}" in text) == ("current" in expected)


def names_complete_versions(seen: Mapping[str, Seen]) -> None:
    """Readers never see a version that is not complete."""
    told = record_of_root(seen)
    assert {one["release_version"] for one in told} <= set(complete_versions(seen))


def record_of_root(seen: Mapping[str, Seen]) -> list[dict[str, Any]]:
    """The versions in `versions.json`; none if it is missing or damaged."""
    try:
        versions: list[dict[str, Any]] = json.loads(seen[VERSIONS].content)["versions"]
    except (KeyError, ValueError):
        return []
    return versions

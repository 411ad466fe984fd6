#!/usr/bin/env python3
"""`gh`, GitHub's command, as far as the workflows use it: releases, issues and pull requests, kept in a folder.

The token says what it may do, as `issues=write contents=read`; whatever else is asked for is refused, as is anything
that would be wrong on GitHub: a second release of a tag, an asset that is there, an unknown label or number.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

HOME = Path(os.environ["FAKE_GITHUB"])
NUMBERS = ".[].number"


def fail(message: str) -> None:
    sys.exit(f"gh: {message}")


def need(permission: str, level: str) -> None:
    """Refuse what the token does not allow."""
    held = dict(part.split("=") for part in os.environ.get("GH_TOKEN", "").split())
    if held.get(permission) != "write" and (level == "write" or held.get(permission) != "read"):
        fail(f"Resource not accessible by integration: {permission}: {level} (HTTP 403)")


def load(kind: str) -> list[dict[str, Any]]:
    path = HOME / f"{kind}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def save(kind: str, items: list[dict[str, Any]]) -> None:
    (HOME / f"{kind}.json").write_text(json.dumps(items, indent=2))


def body_of(options: argparse.Namespace) -> str:
    return Path(options.body_file).read_text() if options.body_file else ""


def numbered(items: list[dict[str, Any]], number: str) -> dict[str, Any]:
    found = [item for item in items if str(item["number"]) == number]
    if not found:
        fail(f"Could not resolve to an issue with the number of {number!r}.")
    return found[0]


def release(action: str, words: list[str], options: argparse.Namespace) -> None:
    need("contents", "read" if action == "view" else "write")
    releases = load("releases")
    tag, *files = words
    there = [item for item in releases if item["tag"] == tag]
    if action == "create":
        if there:
            fail(f"a release with the same tag name already exists: {tag}")
        releases.append(
            {"tag": tag, "prerelease": options.prerelease is not None, "latest": False, "notes": options.notes}
        )
    elif not there:
        fail("release not found")
    elif action == "upload":
        assets = HOME / "assets" / tag
        assets.mkdir(parents=True, exist_ok=True)
        for file in map(Path, files):
            if (assets / file.name).exists() and not options.clobber:
                fail(f"asset under the same name already exists: [{file.name}]")
            shutil.copyfile(file, assets / file.name)
    elif action == "edit":
        there[0]["prerelease"] = options.prerelease != "false"
        for item in releases:
            item["latest"] = item is there[0]
    save("releases", releases)


def issue(action: str, words: list[str], options: argparse.Namespace) -> None:
    need("issues", "read" if action == "list" else "write")
    issues = load("issues")
    if action == "list":
        found = [item for item in issues if item["open"] and options.label in item["labels"]]
        print_numbers(found, options)
    elif action == "create":
        if options.label not in load("labels"):
            fail(f"could not add label: {options.label!r} not found")
        number = len(issues) + 1
        issues.append({"number": number, "open": True, "labels": [options.label], "body": body_of(options)})
    elif action == "edit":
        numbered(issues, words[0])["body"] = body_of(options)
    elif action == "close":
        numbered(issues, words[0])["open"] = False
    save("issues", issues)


def pr(action: str, _: list[str], options: argparse.Namespace) -> None:
    need("pull-requests", "read" if action == "list" else "write")
    requests = load("pull_requests")
    of_head = [item for item in requests if item["head"] == options.head]
    if action == "list":
        print_numbers(of_head if options.state == "all" else [item for item in of_head if item["open"]], options)
        return
    if any(item["open"] for item in of_head):
        fail(f"a pull request for branch {options.head!r} already exists")
    number = 100 + len(requests)
    requests.append({"number": number, "head": options.head, "open": True, "body": body_of(options)})
    save("pull_requests", requests)


def print_numbers(items: list[dict[str, Any]], options: argparse.Namespace) -> None:
    assert (options.json, options.jq) == ("number", NUMBERS), "no other answer is known here"
    for item in items[: int(options.limit)]:
        print(item["number"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("action")
    for name in ("target", "title", "notes", "body-file", "label", "state", "limit", "json", "jq", "head", "comment"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--notes-file")
    parser.add_argument("--prerelease", nargs="?", const="true")
    for name in ("clobber", "latest", "force"):
        parser.add_argument(f"--{name}", action="store_true")
    options, words = parser.parse_known_args()
    if unknown := [word for word in words if word.startswith("--")]:
        fail(f"unknown flag: {unknown[0]}")
    if options.notes_file:
        options.notes = Path(options.notes_file).read_text()
    if options.kind == "label":
        need("issues", "write")
        save("labels", [*load("labels"), words[0]])  # type: ignore[list-item]  # names only
    elif (options.kind, options.action) != ("auth", "setup-git"):
        {"release": release, "issue": issue, "pr": pr}[options.kind](options.action, words, options)


main()

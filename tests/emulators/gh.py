#!/usr/bin/env python3
"""`gh release`, GitHub's command, as far as the workflow of a release uses it; it keeps releases in a folder.

The token names its permissions, as `contents=write`. The command refuses what they do not allow, and what GitHub
refuses: a second release of a tag, a release that is not there, a second asset of one name.
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


def release(action: str, words: list[str], options: argparse.Namespace) -> None:
    need("contents", "read" if action == "view" else "write")
    releases = load("releases")
    tag, *files = words
    there = [item for item in releases if item["tag"] == tag]
    if action == "create":
        if there:
            fail(f"a release with the same tag name already exists: {tag}")
        releases.append(
            {
                "tag": tag,
                "prerelease": options.prerelease is not None,
                "latest": False,
                "notes": Path(options.notes_file).read_text(),
            }
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("action")
    for name in ("target", "title", "notes-file"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--prerelease", nargs="?", const="true")
    for name in ("clobber", "latest"):
        parser.add_argument(f"--{name}", action="store_true")
    kind, *arguments = sys.argv[1:]
    options, words = parser.parse_known_args(arguments)
    if kind != "release":
        fail(f"unknown command: {kind}")
    if unknown := [word for word in words if word.startswith("--")]:
        fail(f"unknown flag: {unknown[0]}")
    release(options.action, words, options)


main()

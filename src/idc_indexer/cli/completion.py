"""What a shell completes besides commands and options: indices, published versions, IDC releases, the cache.

A completion reads the values that precede it on the line, such as `--to`, and the environment. It never fails, and
ends after `SECONDS` at most: a store or a source that does not answer by then has no names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Thread
from typing import Any

import click
from click.shell_completion import CompletionItem

SECONDS = 3.0

Given = dict[str, Any]
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completes(names: Callable[[Given], Iterable[str]]) -> Completion:
    """The `shell_complete` of a parameter whose values are those that `names` finds.

    Args:
        names: gets the values of the parameters that precede, also of the group of the command.
    """

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[str] = []
        given = {**(ctx.parent.params if ctx.parent else {}), **ctx.params}

        def look() -> None:
            with suppress(Exception):  # whatever is wrong, the command itself will say
                found.extend(names(given))

        worker = Thread(target=look, daemon=True)
        worker.start()
        worker.join(SECONDS)
        return [CompletionItem(name) for name in list(found) if name.startswith(incomplete)]

    return complete


def paths(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, for values that may also be addresses."""
    return [CompletionItem(incomplete, type="file")]


@completes
def indices(given: Given) -> Iterable[str]:
    """Indices and derived tables, also those in `--schemas`. Only names of files: no schema is read."""
    from pathlib import Path

    from idc_indexer.documents import bundled

    ours = bundled("schemas")
    folders = (ours, ours / "derived", *map(Path, given.get("schemas") or ()))
    return sorted({file.stem for folder in folders for file in folder.glob("*.json")})


@completes
def versions(given: Given) -> Iterable[str]:
    """Versions that are published at `--to`."""
    from idc_indexer.api.publish import published_status

    return [version.version for version in published_status(to=given["to"]).versions]


@completes
def idc_releases(given: Given) -> Iterable[str]:
    """IDC releases of `--source`."""
    from idc_indexer.api.catalog import list_releases
    from idc_indexer.api.options import DuckDB

    return map(str, list_releases(engine=DuckDB(source=given["source"])).releases)


@completes
def cache_entries(given: Given) -> Iterable[str]:
    """Releases and tables in the cache, as `cache remove` takes them."""
    from idc_indexer.cache import Cache

    names = [entry.name for entry in Cache.at(given.get("cache_dir")).entries()]
    return sorted({name.partition(".")[0] for name in names} | set(names))

"""idc-indexer: builds and publishes the indices of NCI Imaging Data Commons.

The names below are the public interface, for scripts and notebooks; the commands call the same functions. All other
modules are private: they may change in any release. Nothing is loaded before its name is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # to import that of typing takes ten times as long as this module
if TYPE_CHECKING:
    from idc_indexer.api.build import build_release, plan_release, stage_export
    from idc_indexer.api.catalog import explain_index, list_indices, list_releases
    from idc_indexer.api.compare import diff_releases, verify_release, write_report
    from idc_indexer.api.doctor import check_setup
    from idc_indexer.api.options import BigQuery, DuckDB, OwnIndices
    from idc_indexer.api.publish import (
        adopt_version,
        build_wheel,
        check_published,
        promote_release,
        publish_release,
        published_status,
        withdraw_version,
    )
    from idc_indexer.api.tables import open_release
    from idc_indexer.cli.progress import show_progress
    from idc_indexer.errors import IndexerError, UsageError

__version__ = "0.1.0"
REPOSITORY = "https://github.com/OWNER/idc-indexer"

_ROOMS = {
    "api.build": ("build_release", "plan_release", "stage_export"),
    "api.catalog": ("explain_index", "list_indices", "list_releases"),
    "api.compare": ("diff_releases", "verify_release", "write_report"),
    "api.doctor": ("check_setup",),
    "api.options": ("BigQuery", "DuckDB", "OwnIndices"),
    "api.publish": (
        "adopt_version",
        "build_wheel",
        "check_published",
        "promote_release",
        "publish_release",
        "published_status",
        "withdraw_version",
    ),
    "api.tables": ("open_release",),
    "cli.progress": ("show_progress",),
    "errors": ("IndexerError", "UsageError"),
}

__all__ = [
    "BigQuery",
    "DuckDB",
    "IndexerError",
    "OwnIndices",
    "UsageError",
    "adopt_version",
    "build_release",
    "build_wheel",
    "check_published",
    "check_setup",
    "diff_releases",
    "explain_index",
    "list_indices",
    "list_releases",
    "open_release",
    "plan_release",
    "promote_release",
    "publish_release",
    "published_status",
    "show_progress",
    "stage_export",
    "verify_release",
    "withdraw_version",
    "write_report",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"idc_indexer.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

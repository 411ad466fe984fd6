"""Doctor: whether all that a release needs is in place. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from idc_indexer.api.catalog import explain_index, list_releases
from idc_indexer.api.options import BigQuery, DuckDB, EngineOptions
from idc_indexer.errors import IndexerError
from idc_indexer.release.manifest import idc_version_of


@dataclass(frozen=True)
class SetupCheck:
    """One thing that a release needs.

    Attributes:
        name: one of `SETUP_CHECKS`.
        message: what was found.
        advice: what to do; empty if it is OK.
    """

    name: str
    ok: bool
    message: str
    advice: str = ""


def check_setup(
    *,
    to: str | None = None,
    published_at: str | None = None,
    release_version: str | None = None,
    engine: EngineOptions = DuckDB(),
    first: bool = False,
    pypi_url: str | None = None,
    skip: Collection[str] = (),
) -> list[SetupCheck]:
    """Check what a release needs, before hours of building.

    Args:
        to: where releases are published: `gs://bucket[/prefix]`, or a folder; or a mirror, `hf://datasets/OWNER/NAME`.
        published_at: the public address of that; a mirror needs none.
        release_version: version of the release to be made; the source must have its IDC release.
        engine: `DuckDB(...)` or `BigQuery(...)`.
        first: nothing is published yet.
        pypi_url: address of PyPI; the public one when None.
        skip: checks that are not made, of `SETUP_CHECKS`.

    Returns:
        A result for each check.
    """
    from idc_indexer.publish import doctor
    from idc_indexer.publish.stores import HUB

    if to and to.startswith(HUB) and not published_at:
        skip = {*skip, "address"}
    checks: dict[str, Callable[[], str]] = {
        "source": lambda: _source(engine, release_version),
        "store": lambda: doctor.check_store(_given(to, "--to", "PUBLISH_TO")),
        "rights": lambda: doctor.check_rights(_given(to, "--to", "PUBLISH_TO")),
        "address": lambda: doctor.check_address(_given(published_at, "--published-at", "PUBLISHED_URL"), first),
        "pypi": lambda: doctor.check_pypi(pypi_url or doctor.PYPI),
    }
    return [_result(name, check) for name, check in checks.items() if name not in skip]


def _result(name: str, check: Callable[[], str]) -> SetupCheck:
    try:
        return SetupCheck(name, True, check())
    except IndexerError as error:
        return SetupCheck(name, False, error.message, error.hint)


def _given(value: str | None, option: str, variable: str) -> str:
    if not value:
        raise IndexerError(f"{option} is not given", f"Give it; on GitHub, set the variable {variable}.")
    return value


def _source(engine: EngineOptions, release_version: str | None) -> str:
    """Look for the IDC release. BigQuery also says what a query would cost: the project may run queries, then."""
    found = list_releases(engine=engine).releases
    wanted = idc_version_of(release_version) if release_version else found[-1]
    if wanted not in found:
        raise IndexerError(f"there is no IDC release {wanted}; the newest is {found[-1]}", "Check the version.")
    if isinstance(engine, BigQuery):
        explain_index("version_metadata_index", idc_version=wanted, engine=engine)
        return f"BigQuery has IDC release {wanted}, and {engine.project} may query it"
    return f"{engine.source} has IDC release {wanted}"

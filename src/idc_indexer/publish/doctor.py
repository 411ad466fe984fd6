"""What publishing needs: a store or mirror that may be written, a public address, a project on PyPI. It only reads.

A release finds out at its end, hours after its start, that the account may not write. These checks find out before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from idc_indexer.errors import IndexerError
from idc_indexer.http import request
from idc_indexer.publish.records import CURRENT, PROMOTION
from idc_indexer.publish.release_source import open_source
from idc_indexer.publish.stores import HUB, open_store
from idc_indexer.publish.stores.local import LocalStore
from idc_indexer.release.manifest import MANIFEST, folder

if TYPE_CHECKING:
    from idc_indexer.publish.stores.gcs import GcsStore
    from idc_indexer.publish.stores.hub import HubDataset

PYPI = "https://pypi.org"
PROJECT = "idc-index-data"


def check_store(to: str) -> str:
    """Find the store, or the dataset of a mirror.

    Returns:
        What was found, as all functions here do.

    Raises:
        IndexerError: it cannot be listed, there are no credentials, or the client of the service is not installed.
    """
    if to.startswith(HUB):
        _, tags = _mirror(to).refs()
        return f"{to} can be listed; {'it has a version' if tags else 'no version was published'}"
    store = open_store(to, new=True)
    promoted = PROMOTION in store.list(PROMOTION)
    return f"{to} can be listed; {'a version is current' if promoted else 'no version was promoted'}"


def check_rights(to: str) -> str:
    """Ask whether the account that is logged in may publish and promote.

    Raises:
        IndexerError: it may not, or the store does not answer.
    """
    if to.startswith(HUB):
        _mirror(to).check_write()
        return f"{to} may be written"
    missing = _store(to).missing_permissions()
    if missing:
        raise IndexerError(
            f"{to}: not allowed: {', '.join(missing)}",
            "Give the account the role Storage Object Admin on the bucket, or the user write access to the folder.",
        )
    return f"{to} may be written"


def _mirror(to: str) -> HubDataset:
    from idc_indexer.publish.stores.hub import HubDataset

    return HubDataset(to)


def _store(to: str) -> GcsStore | LocalStore:
    store = open_store(to, new=True)
    if isinstance(store, LocalStore):
        return store
    from idc_indexer.publish.stores.gcs import GcsStore

    assert isinstance(store, GcsStore)
    return store


def check_address(published_at: str, first: bool) -> str:
    """Look at what is current, as readers do.

    Args:
        first: whether nothing is published yet; then the address only has to respond.

    Raises:
        IndexerError: nothing can be read there.
    """
    if first:
        url = f"{published_at.rstrip('/')}/{folder(CURRENT)}{MANIFEST}"
        response = request(url, follow=True)
        if response.status not in (200, 404):
            raise IndexerError(f"{url} {response.problem}", "Run `idc-indexer bucket setup`.")
        return f"{published_at} responds"
    with open_source(CURRENT, published_at) as source:
        version = source.manifest.release_version if source.manifest else "without a manifest"
        return f"{published_at} has {len(source.tables)} tables, {version}"


def check_pypi(url: str = PYPI) -> str:
    """Look for the project of the data wheel. Whom it trusts to upload, PyPI tells nobody.

    Raises:
        IndexerError: there is none, or PyPI does not respond.
    """
    address = f"{url.rstrip('/')}/pypi/{PROJECT}/json"
    response = request(address, follow=True)
    if response.problem:
        raise IndexerError(
            f"{address} {response.problem}", "Add a pending trusted publisher on PyPI, or leave PyPI out."
        )
    try:
        newest = json.loads(response.body)["info"]["version"]
    except (ValueError, LookupError, TypeError) as error:
        raise IndexerError(f"{address} is not a page of PyPI", "Check the network and its proxies.") from error
    return f"{PROJECT} {newest} is there; whether it trusts this repository, only an upload shows"

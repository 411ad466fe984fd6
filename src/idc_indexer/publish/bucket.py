"""The settings of a bucket that readers need: public read, cross-origin requests and uniform access.

Public read is the role of object viewers for everyone. It includes listing, which some readers use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.records import EXPOSED
from idc_indexer.publish.stores.gcs import GcsStore

METHODS = ("GET", "HEAD")
_EVERYONE, _VIEWER = "allUsers", "roles/storage.objectViewer"
_CORS = {"origin": ["*"], "method": list(METHODS), "responseHeader": list(EXPOSED), "maxAgeSeconds": 3600}


@dataclass(frozen=True)
class Setting:
    """A setting, whether it is right, and the change that makes it right."""

    name: str
    good: bool
    change: str


def setup(uri: str, apply: bool) -> list[Setting]:
    """Show the settings that readers need; with `apply`, change those that are wrong.

    Returns:
        The settings before the change.

    Raises:
        UsageError: not a bucket.
        IndexerError: the bucket cannot be read or changed, or forbids public access altogether.
    """
    scheme, _, name = uri.rstrip("/").partition("://")
    if scheme != "gs" or not name or "/" in name:
        raise UsageError(f"{uri!r} is not a bucket", "Give gs://bucket.")
    store = GcsStore(name)
    with store.requesting("read its settings"):
        bucket = store.bucket
        bucket.reload(retry=store.retry)
        policy = bucket.get_iam_policy(requested_policy_version=3, retry=store.retry)
        rules = list(bucket.cors)
        access = bucket.iam_configuration
    if access.public_access_prevention == "enforced":
        raise IndexerError(
            f"{uri}: public access prevention is enforced",
            "The owner of the bucket has to lift it; this command does not.",
        )

    def uniform() -> None:
        access.uniform_bucket_level_access_enabled = True
        bucket.patch(if_metageneration_match=bucket.metageneration, retry=store.retry)

    def cross_origin() -> None:
        # The service applies the first rule that matches a request.
        bucket.cors = [_CORS, *rules]
        bucket.patch(if_metageneration_match=bucket.metageneration, retry=store.retry)

    def public() -> None:
        policy.bindings.append({"role": _VIEWER, "members": {_EVERYONE}})
        bucket.set_iam_policy(policy, retry=store.retry)  # its ETag is the precondition

    steps: list[tuple[Setting, Callable[[], None]]] = [
        (
            Setting(
                "uniform access",
                access.uniform_bucket_level_access_enabled,
                "only the policy of the bucket gives access",
            ),
            uniform,
        ),
        (
            Setting("cross-origin requests", _serves(rules), f"{', '.join(METHODS)} from any origin"),
            cross_origin,
        ),
        (
            Setting("public read", _public(policy), f"{_VIEWER} for {_EVERYONE}"),
            public,
        ),
    ]
    for setting, change in steps:
        if apply and not setting.good:
            with store.requesting("change its settings"):
                change()
    return [setting for setting, _ in steps]


def _serves(rules: list[dict[str, Any]]) -> bool:
    """Whether the first rule for any origin allows all methods and exposes all headers that readers need."""
    for rule in rules:
        if "*" in rule.get("origin", []):
            exposed = {header.lower() for header in rule.get("responseHeader", [])}
            return set(METHODS) <= set(rule.get("method", [])) and exposed >= {header.lower() for header in EXPOSED}
    return False


def _public(policy: Any) -> bool:
    return any(
        binding["role"] == _VIEWER and _EVERYONE in binding["members"] and not binding.get("condition")
        for binding in policy.bindings
    )

"""The API of the NCI Genomic Data Commons: which projects it has, and which cases are in them.

An answer is complete, or there is an error that names the request: every page is there, every page belongs to
the same answer, and no patient has two cases.
https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

from idc_indexer import documents, http
from idc_indexer.errors import IndexerError, UsageError

GDC_URL = "https://api.gdc.cancer.gov"
BATCH = 500
"""Patients in one question, and hits in one page of an answer."""

_CPTAC = ("CPTAC-2", "CPTAC-3")


class Gdc:
    """A client of the API."""

    def __init__(
        self, url: str = GDC_URL, timeout: float = 60.0, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Args:
        timeout: seconds that the server may stay silent.

        Raises:
            UsageError: the address is not one of HTTP.
        """
        if not http.is_address(url):
            raise UsageError(f"{url!r} is not an address of the GDC API", f"Give --gdc-url {GDC_URL}.")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._sleep = sleep

    @cached_property
    def projects(self) -> tuple[str, ...]:
        """The identifiers of all projects, asked for once.

        Raises:
            IndexerError: the GDC does not give a complete answer.
        """
        return tuple(self._hits("projects", {"fields": "project_id"}, "project_id", f"projects of {self.url}"))

    def projects_of(self, collection: str) -> tuple[str, ...]:
        """The projects that hold the patients of an IDC collection.

        It is the project of the same name, where `_` stands for `-` and case does not matter; collections of
        CPTAC, which IDC divides by kind of cancer, are in two projects that the GDC does not divide.

        Raises:
            IndexerError: no project, or more than one, has that name.
        """
        if collection.startswith("cptac_"):
            named, needed = [project for project in _CPTAC if project in self.projects], len(_CPTAC)
        else:
            named, needed = [project for project in self.projects if _plain(project) == _plain(collection)], 1
        if len(named) != needed:
            raise IndexerError(
                f"collection {collection}: the GDC has {' and '.join(named) or 'no project of that name'}",
                "The mapping would not be complete. The projects that the GDC has are listed at "
                f"{self.url}/projects?size=1000.",
            )
        return tuple(named)

    def cases(self, collection: str, patients: Sequence[str]) -> dict[str, str]:
        """The cases of patients.

        Args:
            patients: distinct, from one collection.

        Returns:
            The case identifier by patient, of those patients that have one.

        Raises:
            IndexerError: naming the collection and the patients asked for, when the answer is not complete.
        """
        cases: dict[str, str] = {}
        for start in range(0, len(patients), BATCH):
            batch = patients[start : start + BATCH]
            context = f"GDC cases of {collection}, patients {start + 1} to {start + len(batch)} of {len(patients)}"
            filters = (("project.project_id", self.projects_of(collection)), ("submitter_id", batch))
            query = {
                "fields": "submitter_id,case_id",
                "filters": {
                    "op": "and",
                    "content": [{"op": "in", "content": {"field": f, "value": list(values)}} for f, values in filters],
                },
            }
            asked = set(batch)
            for case, hit in self._hits("cases", query, "case_id", context).items():
                patient = hit["submitter_id"]
                if patient not in asked:
                    raise IndexerError(f"{context}: the answer has {patient}, who was not asked for")
                if patient in cases:
                    raise IndexerError(f"{context}: patient {patient} has two cases, {cases[patient]} and {case}")
                cases[patient] = case
        return cases

    def _hits(self, endpoint: str, query: Mapping[str, Any], key: str, context: str) -> dict[str, dict[str, Any]]:
        """All hits of a query, by their identifier, from as many pages as it takes."""
        hits: dict[str, dict[str, Any]] = {}
        total = None
        while total is None or len(hits) < total:
            # Pages of hits in no order may overlap.
            page = {"from": len(hits), "size": BATCH, "sort": f"{key}:asc", "format": "json"}
            answer = self._post(endpoint, {**query, **page}, context)
            documents.validate(answer, f"gdc_{endpoint}", context)
            found, pagination = answer["data"]["hits"], answer["data"]["pagination"]
            if pagination["from"] != len(hits):
                raise IndexerError(f"{context}: asked for hits from {len(hits)} on, given from {pagination['from']} on")
            if total not in (None, pagination["total"]):
                raise IndexerError(f"{context}: there were {total} hits, then {pagination['total']}", "Build again.")
            total = pagination["total"]
            before = len(hits)
            hits |= {hit[key]: hit for hit in found}
            if len(hits) != before + len(found):
                raise IndexerError(f"{context}: a {key} came twice, so another is missing", "Build again.")
            if len(hits) > total or (len(hits) < total and not found):
                raise IndexerError(f"{context}: {len(hits)} hits came, of {total} announced")
        return hits

    def _post(self, endpoint: str, query: Mapping[str, Any], context: str) -> Any:
        """The JSON that the API answers."""
        url = f"{self.url}/{endpoint}"
        try:
            response = http.request(
                url,
                "POST",
                {"Content-Type": "application/json"},
                body=json.dumps(query).encode(),
                timeout=self._timeout,
                sleep=self._sleep,
            )
        except IndexerError as error:
            raise IndexerError(
                f"{context}: {error.message}", "Build again later; the indices that are done are reused."
            ) from error
        if response.status != HTTPStatus.OK:
            raise IndexerError(f"{context}: {url}: HTTP {response.status}")
        try:
            return json.loads(response.body)
        except ValueError as error:
            raise IndexerError(f"{context}: the answer of {url} is not JSON: {error}") from error


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

"""The API of the NCI Genomic Data Commons: which projects it has, and which cases are in them.

An answer is complete, or there is an error that says what was asked: every page is there, every page belongs to
the same answer, and no patient has two cases. Requests that fail in passing are repeated, a bounded number of
times. https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/
"""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from idc_indexer import documents
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import OPENER, PASSING, USER_AGENT, is_address

GDC_URL = "https://api.gdc.cancer.gov"
BATCH = 500
"""Patients in one question, and hits in one page of an answer."""
ATTEMPTS = 6
LONGEST_WAIT = 120.0
"""Seconds; with six attempts that double their wait from 1 s, only the server itself can ask for as much."""

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
        if not is_address(url):
            raise UsageError(f"{url!r} is not an address of the GDC API", f"Give --gdc-url {GDC_URL}.")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._sleep = sleep

    @cached_property
    def projects(self) -> tuple[str, ...]:
        """The identifiers of all projects, asked for once.

        Raises:
            IndexerError: the GDC does not give a whole answer.
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
            IndexerError: naming the collection and the patients asked for, when the answer is not whole.
        """
        cases: dict[str, str] = {}
        for start in range(0, len(patients), BATCH):
            batch = patients[start : start + BATCH]
            where = f"GDC cases of {collection}, patients {start + 1} to {start + len(batch)} of {len(patients)}"
            filters = (("project.project_id", self.projects_of(collection)), ("submitter_id", batch))
            query = {
                "fields": "submitter_id,case_id",
                "filters": {
                    "op": "and",
                    "content": [{"op": "in", "content": {"field": f, "value": list(values)}} for f, values in filters],
                },
            }
            asked = set(batch)
            for case, hit in self._hits("cases", query, "case_id", where).items():
                patient = hit["submitter_id"]
                if patient not in asked:
                    raise IndexerError(f"{where}: the answer has {patient}, who was not asked for")
                if patient in cases:
                    raise IndexerError(f"{where}: patient {patient} has two cases, {cases[patient]} and {case}")
                cases[patient] = case
        return cases

    def _hits(self, endpoint: str, query: Mapping[str, Any], key: str, where: str) -> dict[str, dict[str, Any]]:
        """All hits of a query, by their identifier, from as many pages as it takes."""
        hits: dict[str, dict[str, Any]] = {}
        total = None
        while total is None or len(hits) < total:
            # Pages of hits in no order may overlap.
            page = {"from": len(hits), "size": BATCH, "sort": f"{key}:asc", "format": "json"}
            answer = self._post(endpoint, {**query, **page}, where)
            documents.validate(answer, f"gdc_{endpoint}", where)
            found, pagination = answer["data"]["hits"], answer["data"]["pagination"]
            if pagination["from"] != len(hits):
                raise IndexerError(f"{where}: asked for hits from {len(hits)} on, given from {pagination['from']} on")
            if total not in (None, pagination["total"]):
                raise IndexerError(f"{where}: there were {total} hits, then {pagination['total']}", "Build again.")
            total = pagination["total"]
            before = len(hits)
            hits |= {hit[key]: hit for hit in found}
            if len(hits) != before + len(found):
                raise IndexerError(f"{where}: a {key} came twice, so another is missing", "Build again.")
            if len(hits) > total or (len(hits) < total and not found):
                raise IndexerError(f"{where}: {len(hits)} hits came, of {total} announced")
        return hits

    def _post(self, endpoint: str, query: Mapping[str, Any], where: str) -> Any:
        """Ask, and ask again while it may help."""
        request = urllib.request.Request(  # noqa: S310 -- the scheme is checked above
            f"{self.url}/{endpoint}",
            json.dumps(query).encode(),
            {"Content-Type": "application/json", "User-Agent": USER_AGENT},
        )
        for attempt in range(ATTEMPTS):
            # Half of the wait is random, so that clients that failed together do not come back together.
            wait = 2**attempt * (1 + random.random()) / 2  # noqa: S311 -- nothing secret
            try:
                with OPENER.open(request, timeout=self._timeout) as response:
                    return json.loads(response.read())
            except HTTPError as error:
                with error:
                    problem, asked = f"HTTP {error.code} {error.reason}", _retry_after(error.headers)
                if error.code not in PASSING:
                    raise IndexerError(f"{where}: {self.url}/{endpoint}: {problem}") from error
                if asked > LONGEST_WAIT:
                    raise IndexerError(
                        f"{where}: {self.url}/{endpoint}: {problem}, asks to wait {asked:.0f} s", "Build again later."
                    ) from error
                wait = max(wait, asked)
            except ValueError as error:
                raise IndexerError(f"{where}: the answer of {self.url}/{endpoint} is not JSON: {error}") from error
            except (OSError, HTTPException) as error:
                # No connection, one that broke or fell silent, a body that ends too early.
                problem = str(error) or type(error).__name__
            if attempt + 1 < ATTEMPTS:
                self._sleep(wait)
        raise IndexerError(
            f"{where}: {self.url}/{endpoint}: {problem}, {ATTEMPTS} times", "Build again later; what is done is kept."
        )


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _retry_after(headers: Message) -> float:
    """The seconds that an answer asks to wait, 0 when it does not: RFC 9110, section 10.2.3."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (moment.astimezone(timezone.utc) - datetime.now(timezone.utc)).total_seconds())

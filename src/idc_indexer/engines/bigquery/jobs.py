"""Query jobs: what they will cost, and that none is paid for twice.

The id of a job follows from its query, release, source tables and attempt. A build that starts a job which is
there already gets it instead: BigQuery keeps ids unique, so whichever of two builds comes second, or comes again
after it was killed, finds the job of the first.
"""

from __future__ import annotations

import re
import time
from typing import Any, cast

from google.api_core.exceptions import Conflict, Forbidden, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator

from idc_indexer.catalog import PinnedIndex
from idc_indexer.engines import QueryEstimate
from idc_indexer.engines.bigquery.errors import FAILURES, reason
from idc_indexer.errors import IndexerError
from idc_indexer.google_errors import telling
from idc_indexer.progress import ProgressListener, Retries

HOST = "bigquery.googleapis.com"
TIMEOUT = 60.0
"""Seconds that one request may stay without an answer."""
PATIENCE = 600.0
"""Seconds for which a request that fails in passing is repeated; what Google's client recommends."""
ATTEMPTS = 3
"""How often one build starts a query that BigQuery itself fails at."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between questions whether a job is done."""
PAUSES = (0.0, 1.0, 2.0, 4.0)
"""Seconds before BigQuery is asked for a job; again when it says both that the job is there and that it is not.
That happens: https://github.com/googleapis/python-bigquery/issues/2134"""
_MOST_ATTEMPTS = 100
_PASSING = {
    *("backendError", "internalError", "rateLimitExceeded"),
    *("jobBackendError", "jobInternalError", "jobRateLimitExceeded"),
}
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")


class Jobs:
    """The jobs of one build."""

    def __init__(self, client: bigquery.Client, listener: ProgressListener) -> None:
        self._client = client
        self._listener = listener
        self._retries = Retries(listener)
        self._begun: dict[str, tuple[str, int, bigquery.QueryJob | None]] = {}
        self._found: set[str] = set()
        self.billed = 0
        """Bytes that the jobs which this build started, and that ended, are billed."""

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of every call: how long to wait, and what to repeat.

        `client.query` also gets job_retry=None: that would repeat, for as long again, what `retry` gave up.
        """
        retry = telling(bigquery.DEFAULT_RETRY.with_timeout(PATIENCE), self._retries, HOST)
        return {"retry": retry, "timeout": TIMEOUT}

    def estimate(self, index: PinnedIndex) -> QueryEstimate:
        """Ask what a query reads; this is free."""
        # What BigQuery may have in its own cache is not counted on: it could be gone when the job starts.
        config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False, labels=labels(index))
        job = self._client.query(index.statement.text, config, job_retry=None, **self.options)
        return QueryEstimate(job.total_bytes_processed or 0, len({leaf.table for leaf in index.statement.leaves}))

    def begin(self, index: PinnedIndex, inputs: str, most: int) -> None:
        """Start the job of an index, or find it.

        Args:
            inputs: a digest of its query and source tables.
            most: bytes that it may bill.
        """
        if index.name not in self._begun:
            self._begin(index, inputs, most, 1)

    def _begin(self, index: PinnedIndex, inputs: str, most: int, first: int) -> bigquery.QueryJob:
        config = bigquery.QueryJobConfig(labels=labels(index), maximum_bytes_billed=most)
        for attempt in range(first, first + _MOST_ATTEMPTS):
            job_id = f"idc-indexer_{index.name}_v{index.release}_{inputs[:20]}_{attempt}"
            # Known before it is asked for, so that Ctrl-C in between cancels it as well.
            self._begun[index.name] = (job_id, attempt, None)
            job = self._insert(index, config, job_id)
            if job is not None:
                self._begun[index.name] = (job_id, attempt, job)
                return job
        raise IndexerError(f"{index.name}: {_MOST_ATTEMPTS} jobs have failed", "Look at them in the BigQuery console.")

    def _insert(self, index: PinnedIndex, config: bigquery.QueryJobConfig, job_id: str) -> bigquery.QueryJob | None:
        """The job of that id: new, or one that is there and of use; None when that one is of no use."""
        for pause in PAUSES:
            time.sleep(pause)
            try:
                return self._client.query(index.statement.text, config, job_id=job_id, job_retry=None, **self.options)
            except Conflict:
                try:
                    found: Any = self._client.get_job(job_id, **self.options)
                except NotFound:
                    continue  # it is there or it is not, and either way it can be asked for again under the same id
                except Forbidden as error:
                    if reason(error) == "accessDenied":
                        return None  # it is somebody else's, and so is its result
                    raise
            if not self._of_use(found):
                return None
            state = "finished" if found.state == "DONE" else "running"
            self._listener.message(f"{index.name}: job {job_id} is {state} already, and not paid for again")
            self._found.add(job_id)
            return cast("bigquery.QueryJob", found)
        raise IndexerError(
            f"{index.name}: BigQuery has lost job {job_id}: it says that there is one, and that there is none",
            "Run the same command again in a minute.",
        )

    def _of_use(self, job: Any) -> bool:
        """Whether a job that was found is running, or has a result that may still be read."""
        if job.state != "DONE":
            return True
        if job.error_result:
            return False
        try:
            self._client.get_table(job.destination, **self.options)
        except (NotFound, Forbidden):
            return False  # results live for a day, and only for who asked
        return True

    def finished(self, index: PinnedIndex, inputs: str, most: int) -> tuple[bigquery.QueryJob, RowIterator]:
        """Wait for the job of an index.

        Returns:
            The job, and its rows over REST, which are not fetched before they are asked for.
        """
        for tries in range(ATTEMPTS, 0, -1):
            _, attempt, begun = self._begun[index.name]
            job = begun or self._begin(index, inputs, most, attempt)
            job_id, attempt, _ = self._begun[index.name]
            try:
                self._wait(job)
            except NotFound:
                if tries == 1:
                    raise
                # Lost: ask for it again under the same id, of which there is never more than one.
                self._begun[index.name] = (job_id, attempt, None)
                continue
            failure = (job.error_result or {}).get("reason")
            if failure not in _PASSING or tries == 1:
                del self._begun[index.name]
                self.billed += 0 if job_id in self._found else job.total_bytes_billed or 0
                return job, job.result(**self.options)
            self._listener.message(f"{index.name}: job {job_id} failed in passing ({failure}); starting another")
            self._begun[index.name] = (job_id, attempt + 1, None)
        raise AssertionError("the last try returns or raises")

    def _wait(self, job: bigquery.QueryJob) -> None:
        """Wait until a job is done, well or not.

        `job.result()` asks for rows while it waits, and takes a job that failed for a request that did: for some
        failures it would go on for ten minutes. https://github.com/googleapis/python-bigquery/issues/1903
        """
        pause = FIRST_PAUSE
        while not job.done(**self.options):
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def cancel(self) -> None:
        """Cancel what is running; nothing is raised."""
        for name, (job_id, _, _) in self._begun.items():
            try:
                job = self._client.cancel_job(job_id, retry=bigquery.DEFAULT_RETRY.with_timeout(10), timeout=TIMEOUT)
            except NotFound:
                continue  # it was not there yet
            except FAILURES:
                self._listener.message(f"{name}: could not cancel job {job_id}: try `bq cancel {job_id}`")
            else:
                if job.state != "DONE" or job.error_result:
                    self._listener.message(f"{name}: cancelled job {job_id}")
        self._begun.clear()


def labels(index: PinnedIndex) -> dict[str, str]:
    """Labels of a job, by which its costs are found in the billing export.

    https://cloud.google.com/bigquery/docs/labels-intro#requirements
    """
    release = f"v{index.release}" if index.release else "current"
    return {"tool": "idc-indexer", "index": _NOT_IN_LABELS.sub("-", index.name.lower())[:63], "release": release}

"""A server on loopback that speaks as much of BigQuery as a build uses: the REST API over HTTP, and the Storage
Read API over gRPC.

It runs the SQL of a job (with the function it is given), keeps job ids unique, counts what it bills, pages results,
and keeps their order in a single stream only. Faults happen to the requests that come next, one each, and fates to
the jobs that start next:

    with BigQueryServer(tables, evaluate) as server:
        server.faults["insert"] = ["busy", "", "lost"]   # 503; well; the job is started, and nobody hears of it
        server.fates = ["slow"]                          # runs until `server.release` is set, or it is cancelled

What it does not prove: that the real service is as its documentation describes it. Nobody is asked for credentials.
https://cloud.google.com/bigquery/docs/reference/rest, .../reference/storage/rpc
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

from tests.emulators.loopback import LoopbackServer, QuietHandler

PROJECT = "bigquery-public-data"
MEGABYTE = 1 << 20
Answer = dict[str, Any]

_NAME = re.compile(rf"{PROJECT}\.(idc_\w+)\.(\w+)")
_PATHS = {
    ("POST", r"/jobs"): "insert",
    ("GET", r"/jobs/(?P<job>[^/]+)"): "get",
    ("POST", r"/jobs/(?P<job>[^/]+)/cancel"): "cancel",
    ("GET", r"/queries/(?P<job>[^/]+)"): "results",
    ("GET", r"/datasets"): "datasets",
    ("GET", r"/datasets/(?P<dataset>[^/]+)/tables/(?P<table>[^/]+)"): "table",
}
TOKEN = "ya29.a0AfB-secret_token"
_REFUSALS = {
    "busy": (503, "backendError", "The service is currently unavailable."),
    "limit": (403, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method."),
    "quota": (403, "quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned."),
    "denied": (
        *(403, "accessDenied"),
        "Access Denied: Project my-project: User does not have bigquery.jobs.create permission in project my-project.",
    ),
    "disabled": (403, "accessNotConfigured", "BigQuery API has not been used in project 123 before or it is disabled."),
    "no billing": (403, "billingNotEnabled", "Billing has not been enabled for this project."),
    "no project": (404, "notFound", "Not found: Project my-project"),
    "no job": (404, "notFound", "Not found: Job my-project:US.job"),
    "expired": (401, "authError", f"Request had invalid authentication credentials: Bearer {TOKEN}."),
    "echo": (400, "invalid", f"Unexpected header Authorization: Bearer {TOKEN}, access_token={TOKEN}"),
}
_STATUS = {"invalidQuery": 400, "bytesBilledLimitExceeded": 400, "stopped": 499, "timeout": 400, "quotaExceeded": 403}
_MESSAGES = {
    "stopped": "Job execution was cancelled: User requested cancellation",
    "timeout": "Job timed out after 6h",
    "quotaExceeded": "Quota exceeded: too many bytes scanned",
    "backendError": "Error encountered during execution. Retrying may solve the problem.",
}


@dataclass
class Table:
    """What tables.get says of a source table: counts, and milliseconds since 1970."""

    rows: int
    bytes: int
    modified: int = 1_700_000_000_000


@dataclass
class Job:
    """A job that is or was."""

    id: str
    sql: str
    resource: Answer
    fate: str
    billed: int = 0
    error: Answer | None = None
    result: pa.Table | None = None
    done: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.resource["configuration"].get("labels", {})
        return labels

    @property
    def maximum(self) -> int | None:
        """Its `maximumBytesBilled`."""
        most = self.resource["configuration"]["query"].get("maximumBytesBilled")
        return None if most is None else int(most)


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def document(self) -> bytes:
        error = {"reason": self.reason, "message": str(self), "domain": "global"}
        return json.dumps({"error": {"code": self.status, "message": str(self), "errors": [error]}}).encode()


class BigQueryServer:
    """The server. It stops when the `with` block ends, and with the process.

    Attributes:
        tables: by dotted name, without the project; may be changed at any time.
        faults: of the next requests, by what they ask for: dry run, insert, get, cancel, results, datasets, table
            over HTTP, session, read over gRPC; "" for none; taken from the front.
        fates: of the next jobs: "" to succeed, "slow", or the reason of the error they end with.
        slow: indices whose jobs are slow, in whatever order they start.
        release: lets slow jobs go on.
        jobs: every job that was started, by id; dry runs are none.
        runs: ids of jobs that did their work, and are billed, in order.
        most_at_once: how many jobs were running at the same time.
        requests: what was asked for, in order.
        message_rows, page_rows: the most that a message of gRPC and a page of REST have, whatever is asked for.
    """

    def __init__(self, tables: Mapping[str, Table], evaluate: Callable[[str], pa.Table]) -> None:
        """Args:
        evaluate: gives the result of GoogleSQL; a ValueError means that the query is wrong.
        """
        self.tables = dict(tables)
        self.faults: dict[str, list[str]] = {}
        self.fates: list[str] = []
        self.slow: set[str] = set()
        self.release = threading.Event()
        self.jobs: dict[str, Job] = {}
        self.runs: list[str] = []
        self.most_at_once = 0
        self.requests: list[str] = []
        self.message_rows, self.page_rows = 7, 1_000
        self._evaluate = evaluate
        self._running = 0
        self._sessions: dict[str, list[pa.RecordBatch]] = {}
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._http = LoopbackServer(_handler(self))
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        self._grpc.add_generic_rpc_handlers((self._service(),))
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.environment = {
            "BIGQUERY_EMULATOR_HOST": self._http.url,
            "BIGQUERY_STORAGE_EMULATOR_HOST": f"127.0.0.1:{port}",
        }

    def __enter__(self) -> BigQueryServer:
        self._http.__enter__()
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.release.set()
        self._http.__exit__()
        self._grpc.stop(None).wait()

    @property
    def billed(self) -> int:
        """Bytes, all jobs together."""
        return sum(job.billed for job in self.jobs.values())

    def job(self, index: str) -> Job:
        """The last job of an index."""
        return [job for job in self.jobs.values() if job.labels["index"] == index][-1]

    def fault(self, kind: str) -> str:
        """What is to happen to the next request of a kind."""
        with self._lock:
            self.requests.append(kind)
            return self.faults[kind].pop(0) if self.faults.get(kind) else ""

    # --- REST -----------------------------------------------------------------------------------------------

    def answer(self, kind: str, named: Mapping[str, str], query: Mapping[str, str], body: Answer) -> Answer:
        """A well answer.

        Raises:
            RefusalError: for what BigQuery would not do.
        """
        if kind in ("dry run", "insert"):
            return self._insert(body, dry=kind == "dry run")
        if kind == "datasets":
            return self._datasets(named["project"], query)
        if kind == "table":
            return self._table(named["project"], named["dataset"], named["table"])
        with self._lock:
            job = self.jobs.get(named["job"])
        if job is None:
            raise RefusalError(
                404, "notFound", f"Not found: Job {named['project']}:{query.get('location')}.{named['job']}"
            )
        if kind == "cancel":
            job.stop.set()
            job.done.wait(5)
            return {"kind": "bigquery#jobCancelResponse", "job": _resource(job)}
        return _resource(job) if kind == "get" else self._results(job, query)

    def _insert(self, body: Answer, dry: bool) -> Answer:
        sql = body["configuration"]["query"]["query"]
        names = sorted({".".join(name) for name in _NAME.findall(sql)})
        if missing := [name for name in names if name not in self.tables]:
            raise RefusalError(404, "notFound", f"Not found: Table {PROJECT}:{missing[0]} was not found in location US")
        processed = sum(self.tables[name].bytes for name in names)
        billed = max(-(-processed // MEGABYTE), 10 * len(names)) * MEGABYTE
        if dry:
            statistics = {"totalBytesProcessed": str(processed), "query": {"totalBytesProcessed": str(processed)}}
            return {**body, "status": {"state": "DONE"}, "statistics": statistics}
        job_id = body["jobReference"]["jobId"]
        with self._lock:
            if job_id in self.jobs:
                raise RefusalError(409, "duplicate", f"Already Exists: Job {job_id}")
            job = Job(job_id, sql, body, self.fates.pop(0) if self.fates else "")
            job.fate = "slow" if job.labels.get("index") in self.slow else job.fate
            self.jobs[job_id] = job
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        answer = _resource(job)  # running, however quick it is
        threading.Thread(target=self._run, args=(job, billed), daemon=True).start()
        return answer

    def _run(self, job: Job, billed: int) -> None:
        try:
            if job.fate == "slow":
                while not (job.stop.is_set() or self.release.wait(0.01)):
                    pass
            elif job.fate:
                job.error = {"reason": job.fate, "message": _MESSAGES[job.fate]}
            if job.stop.is_set():
                job.error = {"reason": "stopped", "message": _MESSAGES["stopped"]}
            elif job.maximum is not None and billed > job.maximum:
                message = f"Query exceeded limit for bytes billed: {job.maximum}. {billed} or higher required."
                job.error = {"reason": "bytesBilledLimitExceeded", "message": message}
            if job.error is None:
                job.result = self._evaluate(job.sql)
                job.billed = billed
                with self._lock:
                    self.runs.append(job.id)
        except ValueError as error:
            job.error = {"reason": "invalidQuery", "message": str(error)}
        finally:
            with self._lock:
                self._running -= 1
            job.done.set()

    def _results(self, job: Job, query: Mapping[str, str]) -> Answer:
        reference = job.resource["jobReference"]
        if not job.done.wait(0.2):
            return {"jobReference": reference, "jobComplete": False}
        if job.error:
            raise RefusalError(_STATUS.get(job.error["reason"], 500), job.error["reason"], job.error["message"])
        assert job.result is not None
        start = int(query.get("pageToken") or query.get("startIndex") or 0)
        size = min(int(query.get("maxResults", self.page_rows)), self.page_rows)
        page = job.result.slice(start, size)
        columns = [[_cell(value, f) for value in page[f.name].to_pylist()] for f in page.schema]
        answer: Answer = {
            "jobReference": reference,
            "jobComplete": True,
            "totalRows": str(job.result.num_rows),
            "schema": {"fields": [_described(f) for f in job.result.schema]},
        }
        if size:
            answer["rows"] = [{"f": [{"v": value} for value in row]} for row in zip(*columns, strict=True)]
        if size and start + size < job.result.num_rows:
            answer["pageToken"] = str(start + size)
        return answer

    def _table(self, project: str, dataset: str, name: str) -> Answer:
        reference = {"projectId": project, "datasetId": dataset, "tableId": name}
        if dataset == "_results":
            with self._lock:
                job = self.jobs.get(name)
            if job is None or job.result is None:
                raise RefusalError(404, "notFound", f"Not found: Table {project}:{dataset}.{name}")
            return {"tableReference": reference, "numRows": str(job.result.num_rows)}
        table = self.tables.get(f"{dataset}.{name}")
        if table is None or project != PROJECT:
            raise RefusalError(404, "notFound", f"Not found: Table {project}:{dataset}.{name}")
        return {
            "tableReference": reference,
            "numRows": str(table.rows),
            "numBytes": str(table.bytes),
            "lastModifiedTime": str(table.modified),
        }

    def _datasets(self, project: str, query: Mapping[str, str]) -> Answer:
        names = sorted({name.split(".")[0] for name in self.tables} | {"idc_current", "samples"})
        start, size = int(query.get("pageToken") or 0), 10
        listed = [{"datasetReference": {"projectId": project, "datasetId": name}} for name in names]
        answer: Answer = {"datasets": listed[start : start + size]}
        if start + size < len(names):
            answer["nextPageToken"] = str(start + size)
        return answer

    def expire(self) -> None:
        """Forget the results of all jobs that are done, as after a day."""
        for job in self.jobs.values():
            if job.done.is_set():
                job.result = None

    # --- The Storage Read API -------------------------------------------------------------------------------

    def _service(self) -> Any:
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._read, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
            ),
        }
        return grpc.method_handlers_generic_handler("google.cloud.bigquery.storage.v1.BigQueryRead", handlers)

    def _session(self, request: types.CreateReadSessionRequest, context: grpc.ServicerContext) -> types.ReadSession:
        _abort(self.fault("session"), context)
        wanted = request.read_session
        job = self.jobs.get(wanted.table.rsplit("/", 1)[1])
        if job is None or job.result is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Table {wanted.table}")
            raise AssertionError("abort raises")
        batches = job.result.combine_chunks().to_batches(max_chunksize=self.message_rows)
        count = min(request.max_stream_count or 3, len(batches))
        with self._lock:
            name = f"{request.parent}/locations/us/sessions/{len(self._sessions)}"
            streams = [f"{name}/streams/{number}" for number in range(count)]
            # Only one stream has the rows in order: of several, each has some of them.
            self._sessions |= {stream: batches[number::count] for number, stream in enumerate(streams)}
        return types.ReadSession(
            name=name,
            table=wanted.table,
            data_format=types.DataFormat.ARROW,
            arrow_schema=types.ArrowSchema(serialized_schema=job.result.schema.serialize().to_pybytes()),
            streams=[types.ReadStream(name=stream) for stream in streams],
        )

    def _read(self, request: types.ReadRowsRequest, context: grpc.ServicerContext) -> Iterator[types.ReadRowsResponse]:
        fault = self.fault("read")
        _abort(fault, context)
        skipped, sent = request.offset, 0
        for batch in self._sessions[request.read_stream]:
            if skipped >= batch.num_rows:
                skipped -= batch.num_rows
                continue
            if fault and sent == 1:
                if fault == "cut short":
                    return
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            rest = batch.slice(skipped)
            skipped, sent = 0, sent + 1
            yield types.ReadRowsResponse(
                arrow_record_batch=types.ArrowRecordBatch(serialized_record_batch=_compressed(rest)),
                row_count=rest.num_rows,
            )


def _abort(fault: str, context: grpc.ServicerContext) -> None:
    if fault == "denied":
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "the user does not have bigquery.readsessions.create")
    if fault == "busy":
        context.abort(grpc.StatusCode.UNAVAILABLE, "try again")


def _compressed(batch: pa.RecordBatch) -> bytes:
    """The message of a record batch, LZ4 inside, without the schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    reader.read_next_message()  # the schema
    message: bytes = reader.read_next_message().serialize().to_pybytes()
    return message


def _resource(job: Job) -> Answer:
    """The job as the API shows it."""
    status: Answer = {"state": "DONE" if job.done.is_set() else "RUNNING"}
    if job.done.is_set() and job.error:
        status |= {"errorResult": job.error, "errors": [job.error]}
    configuration = json.loads(json.dumps(job.resource["configuration"]))
    reference = job.resource["jobReference"]
    table = {"projectId": reference["projectId"], "datasetId": "_results", "tableId": job.id}
    configuration["query"]["destinationTable"] = table
    billed = str(job.billed)
    return {
        "jobReference": reference,
        "configuration": configuration,
        "status": status,
        "statistics": {"query": {"totalBytesBilled": billed, "statementType": "SELECT"}},
    }


def _described(column: pa.Field[Any]) -> Answer:
    """A column of a result, as the API describes it."""
    repeated = pa.types.is_list(column.type)
    kind = column.type.value_type if repeated else column.type
    described = {"name": column.name, "mode": "REPEATED" if repeated else "NULLABLE"}
    if pa.types.is_struct(kind):
        return {**described, "type": "RECORD", "fields": [_described(child) for child in kind]}
    names = {pa.string(): "STRING", pa.int64(): "INTEGER", pa.float64(): "FLOAT", pa.bool_(): "BOOLEAN"}
    names |= {pa.date32(): "DATE", pa.time64("us"): "TIME", pa.decimal128(38, 9): "NUMERIC"}
    return {**described, "type": names[kind]}


def _cell(value: Any, column: pa.Field[Any]) -> Any:
    """A value as the API writes it: all scalars are text."""
    if pa.types.is_list(column.type):
        return [{"v": _cell(item, column.type.value_field)} for item in value or ()]
    if value is None:
        return None
    if pa.types.is_struct(column.type):
        return {"f": [{"v": _cell(value[child.name], child)} for child in column.type]}
    return str(value).lower() if isinstance(value, bool) else str(value)


def _handler(server: BigQueryServer) -> type[QuietHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._answer(json.loads(self.rfile.read(length) or b"{}"))

        def _answer(self, body: Answer) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            for (method, path), kind in _PATHS.items():
                match = re.fullmatch(rf"/bigquery/v2/projects/(?P<project>[^/]+){path}", url.path)
                if match and method == self.command:
                    dry = kind == "insert" and body["configuration"].get("dryRun")
                    return self._well_or_not("dry run" if dry else kind, match.groupdict(), query, body)
            return self._send(404, RefusalError(404, "notFound", f"no such method: {url.path}").document())

        def _well_or_not(self, kind: str, named: dict[str, str], query: dict[str, str], body: Answer) -> None:
            fault = server.fault(kind)
            if fault in ("silence", "reset"):
                if fault == "silence":
                    server.stopping.wait(5)
                return self._break_off()
            try:
                if fault == "forgets":
                    server.jobs.pop(named["job"]).stop.set()
                if fault == "grows":
                    for table in server.tables.values():
                        table.bytes *= 1_000
                if fault in _REFUSALS:
                    raise RefusalError(*_REFUSALS[fault])
                answer = server.answer(kind, named, query, body)
            except RefusalError as refused:
                return self._send(refused.status, refused.document())
            if fault == "lost":
                return self._break_off()
            return self._send(200, json.dumps(answer).encode())

        def _break_off(self) -> None:
            # with nothing to linger for, closing sends RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler

"""Clients of BigQuery, with application default credentials and nothing else.

`BIGQUERY_EMULATOR_HOST` (a URL) and `BIGQUERY_STORAGE_EMULATOR_HOST` (host and port of gRPC without TLS) lead to
a server for tests. Only then are there no credentials, and without the second one no Storage Read API.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import google.auth
import grpc
from google.api_core.client_info import ClientInfo
from google.api_core.client_options import ClientOptions
from google.api_core.gapic_v1.client_info import ClientInfo as GrpcClientInfo
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

import idc_indexer
from idc_indexer.engines.bigquery.errors import explaining
from idc_indexer.errors import UsageError
from idc_indexer.google_errors import check_credentials_file
from idc_indexer.schema.source_tables import PROJECT

EMULATOR, STORAGE_EMULATOR = "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"
_SCOPES = ("https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform")
_RELEASE = re.compile(r"idc_v([1-9][0-9]*)")
# https://cloud.google.com/resource-manager/docs/creating-managing-projects; old ones have a domain before a colon
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")


@dataclass(frozen=True)
class Connection:
    """Clients of both APIs, and the project that pays. `storage` is None where there is no such API."""

    project: str
    client: bigquery.Client
    storage: BigQueryReadClient | None


def connect(project: str, location: str) -> Connection:
    """Clients with the credentials of this machine.

    Raises:
        UsageError: the project cannot be one.
        IndexerError: there are no credentials.
    """
    if not _PROJECT.fullmatch(project):
        raise UsageError(
            f"--project {project}: not the id of a Google Cloud project", "`gcloud projects list` shows them."
        )
    emulator = os.environ.get(EMULATOR)
    if emulator:
        nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = ClientOptions(api_endpoint=emulator)
        client = bigquery.Client(project, nobody, location=location, client_options=options)
        host = os.environ.get(STORAGE_EMULATOR)
        if not host:
            return Connection(project, client, None)
        channel = grpc.insecure_channel(host, options=[("grpc.max_receive_message_length", -1)])
        storage = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))  # type: ignore[no-untyped-call]
        return Connection(project, client, storage)
    check_credentials_file()
    with explaining(project, "--engine bigquery"):
        credentials, _ = google.auth.default(scopes=_SCOPES)
        agent = f"idc-indexer/{idc_indexer.__version__}"
        about_client = ClientInfo(user_agent=agent)  # type: ignore[no-untyped-call]
        client = bigquery.Client(project, credentials, location=location, client_info=about_client)
        about = GrpcClientInfo(user_agent=agent)  # type: ignore[no-untyped-call]
        storage = BigQueryReadClient(credentials=credentials, client_info=about)  # type: ignore[no-untyped-call]
        return Connection(project, client, storage)


def releases(connection: Connection) -> list[int]:
    """The IDC releases that BigQuery has, ascending.

    Raises:
        IndexerError: when BigQuery does not answer, or does not want to.
    """
    with explaining(connection.project, "datasets of IDC"):
        names = [dataset.dataset_id for dataset in connection.client.list_datasets(PROJECT, page_size=1_000)]
    return sorted(int(match[1]) for match in map(_RELEASE.fullmatch, names) if match)

"""The client of the GDC gives whole answers or an error, whatever the server does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import ATTEMPTS
from idc_indexer.release.gdc import BATCH, Gdc
from tests.emulators.gdc import LASTING, PASSING, GdcServer, case_id

# Three batches, the last one short; every seventh patient has no case.
PATIENTS = [f"TCGA-{number:04}" for number in range(2 * BATCH + 60)]
CASES = {patient: case_id(patient) for number, patient in enumerate(PATIENTS) if number % 7}
CPTAC = {f"C3L-{number:04}": case_id(f"C3L-{number:04}") for number in range(700)}
PROJECTS: dict[str, dict[str, str]] = {
    "TCGA-LUAD": CASES,
    # A patient of the same name elsewhere is another one.
    "TCGA-LUSC": {PATIENTS[0]: case_id("other")},
    "CPTAC-2": dict(list(CPTAC.items())[:450]),
    "CPTAC-3": dict(list(CPTAC.items())[450:]),
    "CDDP_EAGLE-1": {},
    "CGCI-BLGSP": {},
    "CGCI-HTMCP-CC": {},
    "HCMI-CMDC": {},
    "CCDI-MCI": {},
    "VAREPOP-APOLLO": {},
    "APOLLO-LUAD": {},
}


@pytest.fixture(scope="module")
def running() -> Iterator[GdcServer]:
    with GdcServer(PROJECTS) as server:
        yield server


@pytest.fixture
def server(running: GdcServer) -> GdcServer:
    return reset(running)


def reset(server: GdcServer) -> GdcServer:
    server.projects = {project: dict(cases) for project, cases in PROJECTS.items()}
    server.faults, server.requests, server.page_limit = [], [], 10_000
    return server


class Client(Gdc):
    """A client that does not wait, but remembers how long it would have."""

    def __init__(self, server: GdcServer, timeout: float = 30) -> None:
        self.waits: list[float] = []
        super().__init__(server.url, timeout=timeout, sleep=self.waits.append)


@pytest.fixture
def client(server: GdcServer) -> Client:
    return ready(server)


def ready(server: GdcServer, fault: str = "") -> Client:
    """A client that knows the projects. Only for silence is it impatient: a busy machine would be taken for that."""
    client = Client(server, 0.3 if fault == "silence" else 30)
    assert len(client.projects) == len(PROJECTS)
    server.requests = []
    return client


def test_batches_and_pages(server: GdcServer, client: Client) -> None:
    assert client.cases("tcga_luad", PATIENTS) == CASES
    assert [len(body["filters"]["content"][1]["content"]["value"]) for _, body in server.requests] == [500, 500, 60]
    endpoint, body = server.requests[0]
    assert (endpoint, body["fields"], body["from"], body["size"]) == ("cases", "submitter_id,case_id", 0, 500)
    assert body["filters"]["content"][0]["content"] == {"field": "project.project_id", "value": ["TCGA-LUAD"]}
    assert client.waits == []


def test_short_pages(server: GdcServer, client: Client) -> None:
    server.page_limit = 70
    assert client.cases("cptac_luad", list(CPTAC)) == CPTAC
    assert [body["from"] for _, body in server.requests][:9] == [0, 70, 140, 210, 280, 350, 420, 490, 0]
    assert Client(server).projects == tuple(sorted(PROJECTS))


def test_nobody(server: GdcServer, client: Client) -> None:
    assert client.cases("tcga_luad", []) == {}
    assert client.cases("tcga_luad", ["TCGA-0000"]) == {}
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("collection", "projects"),
    [
        ("tcga_luad", ("TCGA-LUAD",)),
        ("cddp_eagle_1", ("CDDP_EAGLE-1",)),
        ("cgci_blgsp", ("CGCI-BLGSP",)),
        ("cgci_htmcp_cc", ("CGCI-HTMCP-CC",)),
        ("hcmi_cmdc", ("HCMI-CMDC",)),
        ("ccdi_mci", ("CCDI-MCI",)),
        ("varepop_apollo", ("VAREPOP-APOLLO",)),
        ("cptac_ucec", ("CPTAC-2", "CPTAC-3")),
        ("cptac_cm", ("CPTAC-2", "CPTAC-3")),
    ],
)
def test_projects_by_name(client: Client, collection: str, projects: tuple[str, ...]) -> None:
    assert client.projects_of(collection) == projects


@pytest.mark.parametrize("collection", ["tcga_new", "tcga", "cptac", "apollo_5", "cddp_eagle", "htmcp_cc"])
def test_unknown_collection(client: Client, collection: str) -> None:
    with pytest.raises(IndexerError, match=f"collection {collection}: the GDC has no project of that name"):
        client.cases(collection, PATIENTS)


def test_two_projects_of_one_name(server: GdcServer) -> None:
    server.projects["TCGA_LUAD"] = {}
    with pytest.raises(IndexerError, match="collection tcga_luad: the GDC has TCGA-LUAD and TCGA_LUAD"):
        Client(server).projects_of("tcga_luad")


def test_half_of_cptac(server: GdcServer) -> None:
    del server.projects["CPTAC-2"]
    with pytest.raises(IndexerError, match="collection cptac_ov: the GDC has CPTAC-3"):
        Client(server).projects_of("cptac_ov")


@pytest.mark.parametrize("fault", PASSING)
def test_passing_faults(server: GdcServer, fault: str) -> None:
    client = ready(server, fault)
    server.faults = ["", fault, fault]
    assert client.cases("tcga_luad", PATIENTS) == CASES
    assert len(server.requests) == 5
    assert len(client.waits) == 2
    shortest = {"limit, 7 s": (7.0, 7.0), "limit, date": (7.5, 7.5)}.get(fault, (0.5, 1.0))
    longest = {"limit, 7 s": (7.0, 7.0), "limit, date": (9.0, 9.0)}.get(fault, (1.0, 2.0))
    for wait, least, most in zip(client.waits, shortest, longest, strict=True):
        assert least <= wait <= most


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_do_not_pass(server: GdcServer, fault: str) -> None:
    client = ready(server, fault)
    server.faults = ["", *[fault] * ATTEMPTS]
    with pytest.raises(
        IndexerError, match=rf"GDC cases of tcga_luad, patients 501 to 1000 of 1060: .*, {ATTEMPTS} times"
    ):
        client.cases("tcga_luad", PATIENTS)
    assert len(server.requests) == 1 + ATTEMPTS
    assert len(client.waits) == ATTEMPTS - 1


MESSAGES = {
    "refused": "HTTP 400",
    "moved": "HTTP 302",
    "limit, an hour": "HTTP 429 Too Many Requests, asks to wait 3600 s",
    "html": "is not JSON",
    "empty": "is not JSON",
    "total grows": "there were",
    "total too small": "hits came, of",
    "hit lost": "there were|came, of",
    "all hits lost": "0 hits came, of",
    "hit twice": "a case_id came twice",
    "two cases": "has two cases",
    "stranger": "the answer has STRANGER, who was not asked for",
    "no id": "'case_id' is a required property",
    "null id": "None is not of type 'string'",
    "page elsewhere": "given from 1 on",
    "no total": "None is not of type 'integer'",
    "no data": "'data' is a required property",
}


@pytest.mark.parametrize("fault", sorted(set(LASTING) - {"hit lost", "total grows"}))
def test_lasting_faults(server: GdcServer, client: Client, fault: str) -> None:
    server.faults = ["", fault]
    with pytest.raises(IndexerError, match="GDC cases of tcga_luad, patients 501 to 1000 of 1060.*" + MESSAGES[fault]):
        client.cases("tcga_luad", PATIENTS)
    assert len(server.requests) == 2
    assert client.waits == []


# A hit that is lost is asked for again; a project of another name is one that no collection finds.
@pytest.mark.parametrize("fault", sorted(set(LASTING) - {"hit lost", "stranger"}))
def test_lasting_faults_of_projects(server: GdcServer, fault: str) -> None:
    server.faults = [fault]
    with pytest.raises(IndexerError, match=f"projects of {server.url}"):
        _ = Client(server).projects


def test_total_that_changes(server: GdcServer, client: Client) -> None:
    server.page_limit = 200
    server.faults = ["", "total grows"]
    with pytest.raises(IndexerError, match="patients 1 to 500 of 1060: there were 428 hits, then 429"):
        client.cases("tcga_luad", PATIENTS)


def test_hit_lost_on_the_way_is_asked_for_again(server: GdcServer, client: Client) -> None:
    server.faults = ["hit lost"]
    assert client.cases("tcga_luad", PATIENTS) == CASES
    assert [body["from"] for _, body in server.requests] == [0, 427, 0, 0]


def test_same_patient_in_two_projects(server: GdcServer, client: Client) -> None:
    server.projects["CPTAC-3"]["C3L-0001"] = case_id("second")
    with pytest.raises(
        IndexerError, match="GDC cases of cptac_ov, patients 1 to 2 of 2: patient C3L-0001 has two cases"
    ):
        client.cases("cptac_ov", ["C3L-0000", "C3L-0001"])


@settings(deadline=timedelta(seconds=20), max_examples=250)
@given(
    faults=st.lists(st.sampled_from(["", "", *(set(PASSING) - {"silence"}), *LASTING]), max_size=12),
    page_limit=st.sampled_from([60, 250, 10_000]),
    patients=st.integers(0, len(PATIENTS)),
)
def test_complete_or_an_error(running: GdcServer, faults: list[str], page_limit: int, patients: int) -> None:
    server = reset(running)
    client = Client(server)
    server.faults, server.page_limit = list(faults), page_limit
    asked = PATIENTS[:patients]
    try:
        cases = client.cases("tcga_luad", asked)
    except IndexerError as error:
        problem = str(error)
    else:
        problem = ""
        assert cases == {patient: CASES[patient] for patient in asked if patient in CASES}
    if problem:
        assert server.faults != faults
        assert problem.startswith(("GDC cases of tcga_luad, patients ", "projects of http://127.0.0.1:"))


def test_nobody_there() -> None:
    before = threading.active_count()
    with GdcServer({}) as stopped:
        pass
    with pytest.raises(IndexerError, match=r"projects of http://127\.0\.0\.1.*Connection refused"):
        _ = Client(stopped).projects
    assert threading.active_count() <= before


def test_silence_is_limited(server: GdcServer) -> None:
    server.faults = ["silence"]
    start = time.monotonic()
    assert len(Client(server, timeout=0.3).projects) == len(PROJECTS)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("url", ["", "api.gdc.cancer.gov", "file:///etc/passwd", "ftp://gdc"])
def test_not_an_address(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        Gdc(url)

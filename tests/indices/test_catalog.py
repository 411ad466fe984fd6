"""The catalog: the bundled indices are sound, one's own are found by their files, and what is wrong is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from pydicom._uid_dict import UID_dictionary

from idc_indexer import documents
from idc_indexer.catalog import Catalog, Index
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.schema.column import Column, in_release
from tests.conftest import BUNDLED, IN_WHEEL, INDICES
from tests.support.dicom_types import bigquery_types

CATALOG = Catalog()
TABLE = "`bigquery-public-data.idc_current.version_metadata`"


# --- The bundled indices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [0, 23, 24, 25])
@pytest.mark.parametrize("name", BUNDLED)
def test_every_index_agrees_with_its_query(name: str, release: int) -> None:
    index = CATALOG.indices[name].for_release(release)
    assert [column for column, _ in index.statement.returns] == [column.name for column in index.schema.columns]
    assert {leaf.table.release for leaf in index.statement.leaves} >= {release}
    documents.validate(index.schema.to_document(), "artifact", name)


def test_the_bundled_indices() -> None:
    assert list(CATALOG.indices) == BUNDLED
    assert [index.name for index in CATALOG.select()] == INDICES
    assert [index.name for index in CATALOG.select(requested={"series_history"})] == BUNDLED
    assert [index.name for index in CATALOG.select() if index.schema.in_wheel] == IN_WHEEL
    assert [index.name for index in CATALOG.select(["idc_index", "collections_index"])] == IN_WHEEL[1:3]
    with pytest.raises(UsageError, match=r"no index is called a, b\n.*idc_index"):
        CATALOG.select(["b", "idc_index", "a"])


@pytest.mark.parametrize("index", CATALOG.select(), ids=lambda index: index.name)
def test_columns_are_described(index: Index) -> None:
    def walk(columns: tuple[Column, ...]) -> list[Column]:
        return [field for column in columns for field in (column, *walk(column.fields))]

    descriptions = [field.description for field in walk(index.schema.columns)] + [index.schema.description]
    assert all(text.strip() == text and text.endswith(".") and len(text) > 10 for text in descriptions)
    names = [column.name for column in index.schema.columns]
    assert len(set(names)) == len(names)
    for reference in index.schema.references:
        other = CATALOG.indices[reference.index].schema
        assert set(reference.to) <= {column.name for column in other.columns}


def test_a_schema_survives_its_document() -> None:
    for index in CATALOG.select():
        document = index.schema.to_document()
        (again := type(index.schema).from_document(document)).to_document()
        assert again.to_document() == document
        assert (again.order, again.references) == (index.schema.order, index.schema.references)


@pytest.mark.parametrize(
    ("release", "file"),
    [(1, "until_v23"), (23, "until_v23"), (24, "until_v24"), (25, ""), (26, ""), (0, "")],
)
def test_old_releases_have_their_own_queries(release: int, file: str) -> None:
    index = CATALOG.indices["analysis_results_index"].for_release(release)
    assert index.query_file == ".".join(filter(None, ["analysis_results_index", file, "sql"]))
    with_provenance = "provenance" in [column.name for column in index.schema.columns]
    assert with_provenance == (file == "")


def test_a_release_that_lacks_a_column_is_refused_by_name() -> None:
    with pytest.raises(IndexerError, match=r"idc_index cannot be built for IDC release 12: .*idc_v12.dicom_all has no"):
        CATALOG.indices["idc_index"].for_release(12)
    with pytest.raises(IndexerError, match="reads prior releases, and release 1 has none"):
        CATALOG.indices["prior_versions_index"].for_release(1)


def test_fields_of_other_releases_are_left_out_at_every_depth() -> None:
    inner = (Column("old", "STRING", until=3), Column("new", "STRING", since=4), Column("both", "STRING"))
    (field,) = in_release([Column("r", "RECORD", fields=inner), Column("gone", "STRING", until=2)], 3)
    assert [child.name for child in field.fields] == ["old", "both"]
    assert [field.name for field in in_release(inner, 0)] == ["new", "both"]


# --- Facts that were taken from elsewhere -------------------------------------------------------------------------


def test_types_of_dicom_attributes_are_those_of_the_standard() -> None:
    path = documents.bundled("schemas") / "sources" / "dicom_types.json"
    assert json.loads(path.read_bytes()) == bigquery_types()


def test_names_of_sop_classes_are_those_of_the_standard() -> None:
    text = CATALOG.indices["idc_index"].for_release(25).statement.text
    (names,) = (
        {branch.this.name: branch.args["true"].name for branch in case.args["ifs"]}
        for case in sqlglot.parse_one(text, dialect="bigquery").find_all(sqlglot.exp.Case)
        if case.this.name == "SOPClassUID"
    )
    known = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and uid in names}
    assert {uid: names[uid] for uid in known} == known
    storage = {uid for uid, entry in UID_dictionary.items() if re.search("Storage( - |$)", entry[0]) and not entry[3]}
    images = {uid for uid in storage if uid.startswith("1.2.840.10008.5.1.4.1.1.")}
    assert images - names.keys() == set()


def test_transfer_syntaxes_are_transfer_syntaxes() -> None:
    text = CATALOG.indices["idc_index"].for_release(25).statement.text
    uids = re.findall(r"WHEN '(1\.2\.840\.10008\.1\.2[0-9.]*)' THEN", text)
    assert len(uids) > 20
    assert {UID_dictionary[uid][1] for uid in uids} == {"Transfer Syntax"}


# --- Indices of one's own -----------------------------------------------------------------------------------------

COLUMNS = [("idc_version", "INTEGER"), ("version_timestamp", "STRING")]
QUERY = f"SELECT idc_version, version_timestamp FROM {TABLE} ORDER BY idc_version"


def document(**changes: Any) -> dict[str, Any]:
    described = [{"name": n, "type": t, "mode": "NULLABLE", "description": "Mine."} for n, t in COLUMNS]
    return {
        "table_description": "Mine.",
        "row": "of mine",
        "in_wheel": False,
        "primary_key": ["idc_version"],
        "order": ["idc_version"],
        "references": [],
        "columns": described,
    } | changes


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., Index]:
    """The index `mine` of these files, in a catalog of one's own folders."""

    def add(schema: Any = None, **queries: str) -> Index:
        (tmp_path / "q").mkdir()
        (tmp_path / "s").mkdir()
        for name, query in (queries or {"mine": QUERY}).items():
            (tmp_path / "q" / f"{name.replace('__', '.')}.sql").write_text(query)
        text = schema if isinstance(schema, str) else json.dumps(schema or document())
        (tmp_path / "s" / "mine.json").write_text(text)
        return Catalog([tmp_path / "q"], [tmp_path / "s"]).indices["mine"]

    return add


def test_an_index_is_added_by_two_files(mine: Callable[..., Index]) -> None:
    index = mine()
    assert index.for_release(25).statement.text == QUERY.replace("current", "v25")
    assert index.schema.to_document() == document()


def test_an_index_of_ones_own_goes_before_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "version_metadata_index.sql").write_text(QUERY)
    (tmp_path / "version_metadata_index.json").write_text(json.dumps(document()))
    catalog = Catalog([tmp_path], [tmp_path])
    assert list(catalog.indices) == BUNDLED
    assert catalog.indices["version_metadata_index"].for_release(25).schema.description == "Mine."
    assert not catalog.indices["version_metadata_index"].schema.in_wheel


def test_a_variant_is_for_the_releases_up_to_its_own(mine: Callable[..., Index]) -> None:
    old = QUERY.replace(TABLE, f"{TABLE} AS old")
    index = mine(mine=QUERY, mine__until_v4=old, mine__until_v11=f"-- 11\n{old}")
    wheres = {release: index.for_release(release).query_file for release in (0, 1, 4, 5, 11, 12, 99)}
    older, old_ = "mine.until_v4.sql", "mine.until_v11.sql"
    assert wheres == {0: "mine.sql", 1: older, 4: older, 5: old_, 11: old_, 12: "mine.sql", 99: "mine.sql"}


def test_columns_that_an_index_declares_can_be_read(mine: Callable[..., Index]) -> None:
    nested = {"name": "parts", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "size", "type": "FLOAT"}]}
    sources = {
        "idc_current.extra": {"columns": [{"name": "k", "type": "INTEGER"}, nested]},
        "idc_current.version_metadata": {"columns": [{"name": "note", "type": "STRING", "since": 20}]},
    }
    query = (
        "SELECT e.k AS idc_version, v.note AS version_timestamp FROM `bigquery-public-data.idc_current.extra` AS e, "
        f"e.parts AS p JOIN {TABLE} AS v ON v.idc_version = e.k WHERE p.size = 1 ORDER BY idc_version"
    )
    index = mine(document(sources=sources), mine=query)
    assert {f"{leaf.table.name}.{leaf.path}" for leaf in index.for_release(20).statement.leaves} == {
        "extra.k",
        "extra.parts.size",
        "version_metadata.note",
        "version_metadata.idc_version",
    }
    assert "sources" not in index.schema.to_document()
    with pytest.raises(IndexerError, match=r"idc_v19\.version_metadata has no column note: only release 20 and"):
        index.for_release(19)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{"table_description"', r"mine\.json: not JSON"),
        ("[]", r"mine\.json: \$: the value is not of type 'object'"),
        ({"surprise": 1}, r"mine\.json: \$: .*'surprise'"),
        ({"table_description": ""}, r"mine\.json: \$\.table_description"),
        ({"primary_key": []}, r"mine\.json: \$\.primary_key"),
        ({"columns": [{"name": "a b", "type": "STRING", "mode": "NULLABLE", "description": "x"}]}, r"\$\.columns\[0\]"),
        ({"columns": [{"name": "a", "type": "TEXT", "mode": "NULLABLE", "description": "x"}]}, r"'TEXT'"),
        ({"columns": [{"name": "a", "type": "RECORD", "mode": "NULLABLE", "description": "x"}]}, r"'fields'"),
        ({"columns": document()["columns"] * 2}, r"idc_version"),
        ({"primary_key": ["nothing"], "order": ["nothing"]}, r"mine\.json: nothing is not among the columns"),
        ({"order": ["idc_version", "gone DESC"]}, r"mine\.json: gone is not among the columns"),
        ({"order": ["version_timestamp"]}, r"must end with the key, .*: idc_version"),
        (
            {"references": [{"columns": ["missing"], "index": "idc_index", "to": ["PatientID"]}]},
            r"mine\.json: missing is not among the columns",
        ),
        (
            {"references": [{"columns": ["idc_version", "version_timestamp"], "index": "other", "to": ["a"]}]},
            r"mine\.json: .*references",
        ),
        ({"sources": {"dicom_all": {"columns": []}}}, r"mine\.json: sources: .*dicom_all"),
        ({"sources": {"idc_current.x": {"columns": [{"name": "a"}]}}}, r"mine\.json: sources: .*'type'"),
    ],
)
def test_a_malformed_schema_is_refused(mine: Callable[..., Index], schema: Any, message: str) -> None:
    with pytest.raises(IndexerError, match=message):
        mine(schema if isinstance(schema, str) else document(**schema))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("idc_version, version_hash", r"column 2 is version_hash, in the schema version_timestamp"),
        ("version_timestamp, idc_version", r"column 1 is version_timestamp, in the schema idc_version"),
        ("idc_version, version_timestamp, version_hash", r"3 columns, in the schema 2"),
        ("idc_version", r"1 columns, in the schema 2"),
        ("version_hash AS idc_version, version_timestamp", r"column idc_version is STRING, in the schema INT64"),
        ("idc_version, SPLIT(version_hash) AS version_timestamp", r"version_timestamp is ARRAY<STRING>, .* STRING"),
    ],
)
def test_a_query_that_returns_something_else_is_refused(mine: Callable[..., Index], query: str, message: str) -> None:
    index = mine(mine=f"SELECT {query} FROM {TABLE} ORDER BY idc_version")
    with pytest.raises(IndexerError, match=rf"mine\.sql: .*{message}"):
        index.for_release(25)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("", "nothing"),
        ("ORDER BY version_timestamp", "version_timestamp"),
        ("ORDER BY idc_version DESC", "idc_version DESC"),
        ("ORDER BY idc_version, version_timestamp", "idc_version, version_timestamp"),
    ],
)
def test_a_query_in_another_order_is_refused(mine: Callable[..., Index], order: str, message: str) -> None:
    index = mine(mine=f"SELECT idc_version, version_timestamp FROM {TABLE} {order}")
    with pytest.raises(IndexerError, match=rf"mine\.sql: ends with ORDER BY {message}, in the schema .*idc_version$"):
        index.for_release(25)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"mine__until_v4": QUERY}, r"index mine has no query for the newest release\nAdd mine\.sql"),
        ({"other": QUERY}, r"index mine has a schema and no query"),
        ({"mine": QUERY, "zother": QUERY}, r"index zother has a query and no schema"),
        ({"mine": QUERY, "Zother": QUERY}, r"Zother\.sql: a query file is named"),
        ({"mine": QUERY, "mine__until_4": QUERY}, r"until_4\.sql: a query file is named"),
        ({"mine": QUERY, "mine__until_v04": QUERY}, r"until_v04\.sql: a query file is named"),
    ],
)
def test_files_that_do_not_belong_together_are_named(
    mine: Callable[..., Index], queries: dict[str, str], message: str
) -> None:
    with pytest.raises(IndexerError, match=message):
        mine(**queries)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: not a folder"):
        Catalog([tmp_path / "nowhere"])


def test_a_query_that_is_not_text_is_named(tmp_path: Path, mine: Callable[..., Index]) -> None:
    index = mine()
    (tmp_path / "q" / "mine.sql").write_bytes(b"SELECT '\xff'")
    with pytest.raises(IndexerError, match=r"mine\.sql"):
        index.for_release(25)

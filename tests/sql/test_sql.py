"""Pinning, analysis and translation of queries, and the errors of each."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
import sqlglot

from idc_indexer.catalog import Catalog
from idc_indexer.errors import IndexerError
from idc_indexer.schema.source_tables import SourceTables
from idc_indexer.sql import analyze, pin, to_duckdb
from tests.support.oracle import NOT_SUPPORTED, statement

CATALOG = Catalog()
SOURCES = SourceTables()
DICOM = "`bigquery-public-data.idc_v25.dicom_all`"
COLLECTIONS = "`bigquery-public-data.idc_v25.original_collections_metadata`"


def leaves(sql: str) -> dict[str, set[str]]:
    """The leaf columns read, by table; `@dicom` and `@collections` stand for the two tables."""
    sql = sql.replace("@dicom", DICOM).replace("@collections", COLLECTIONS)
    found: dict[str, set[str]] = {}
    for leaf in analyze(sql, SOURCES, "q.sql").leaves:
        found.setdefault(leaf.table.name, set()).add(leaf.path)
    return found


# --- Pinning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "pinned"),
    [
        ("SELECT 1 FROM `bigquery-public-data.idc_current.a`", "SELECT 1 FROM `bigquery-public-data.idc_v7.a`"),
        ("FROM p.idc_current_clinical.a, p.`idc_current`.b", "FROM p.idc_v7_clinical.a, p.`idc_v7`.b"),
        ("-- idc_current, kept\n# ä (\nSELECT 'idc_current'  ;\n", "-- idc_v7, kept\n# ä (\nSELECT 'idc_v7'  ;\n"),
        ("SELECT idc_currently, my_idc_current, idc_current_a", "SELECT idc_currently, my_idc_current, idc_current_a"),
    ],
)
def test_pin_changes_the_release_and_nothing_else(sql: str, pinned: str) -> None:
    assert pin(sql, 7, "q.sql") == pinned


PRIOR = """\
-- für (jede)
WITH
  past AS (
    -- of idc_v1
    SELECT CAST(REPLACE('idc_v1', 'idc_v', '') AS INT64) AS v, idc_v10, SPLIT(')(', '(')
    FROM `p.idc_v1.a` # (
  ),
  now AS (SELECT 1 FROM `p.idc_current.a`)
SELECT * FROM past, now
"""
PRIOR_AT_3 = """\
-- für (jede)
WITH
  past AS (
    -- of idc_v1
    SELECT CAST(REPLACE('idc_v1', 'idc_v', '') AS INT64) AS v, idc_v10, SPLIT(')(', '(')
    FROM `p.idc_v1.a` # (
  UNION ALL
    -- of idc_v2
    SELECT CAST(REPLACE('idc_v2', 'idc_v', '') AS INT64) AS v, idc_v10, SPLIT(')(', '(')
    FROM `p.idc_v2.a` # (
  ),
  now AS (SELECT 1 FROM `p.idc_v3.a`)
SELECT * FROM past, now
"""


def test_pin_writes_the_template_once_for_each_prior_release() -> None:
    assert pin(PRIOR, 3, "q.sql") == PRIOR_AT_3
    (tree,) = sqlglot.parse(
        pin("WITH a AS (SELECT 1 FROM `p.idc_v1.a`) SELECT * FROM a", 3, "q.sql"), dialect="bigquery"
    )
    assert tree is not None
    assert [table.db for table in tree.find_all(sqlglot.exp.Table) if table.db] == ["idc_v1", "idc_v2"]
    assert pin(PRIOR, 2, "q.sql") == PRIOR.replace("idc_current", "idc_v2")
    assert pin(PRIOR, 12, "q.sql").count("UNION ALL") == 10
    with pytest.raises(IndexerError, match="reads prior releases, and release 1 has none"):
        pin(PRIOR, 1, "q.sql")


@pytest.mark.parametrize(
    "sql",
    [
        "WITH a AS (SELECT 1 FROM `p.idc_v1.a`), b AS (SELECT 1 FROM `p.idc_v1.b`) SELECT * FROM a, b",
        "WITH a AS (SELECT 1 FROM `p`.`idc_v1`.`a`) SELECT * FROM a, `p.idc_current.a`",
        "SELECT 1 FROM `p.idc_v1.a`, `p.idc_current.a`",
    ],
)
def test_the_placeholder_is_named_in_one_template_only(sql: str) -> None:
    """Left as it is, the query would read release 1 only, and return too few rows without an error."""
    with pytest.raises(IndexerError, match=r"q\.sql: line 1: reads idc_v1\.[ab], a table of IDC release 1 only"):
        pin(sql, 4, "q.sql")


@pytest.mark.parametrize("release", [0, 24, 25])
@pytest.mark.parametrize(
    "table",
    [
        "`bigquery-public-data.idc_v25.dicom_all`",
        "`bigquery-public-data`.`idc_v25`.`dicom_all`",
        "bigquery-public-data.idc_v25 . dicom_all",
        "`bigquery-public-data`/* */.idc_v25.`dicom_all`",
    ],
)
def test_a_table_of_a_fixed_release_is_an_error_for_every_release(table: str, release: int) -> None:
    """Also for its own: whether a query builds must not depend on which release comes next."""
    with pytest.raises(
        IndexerError, match=r"^q\.sql: line 3: reads idc_v25\.dicom_all, .* 25 only\nWrite idc_current:"
    ):
        pin(f"-- of idc_v25.dicom_all\nSELECT 'a.idc_v25.b' AS k\nFROM {table}, `p.idc_current.a`", release, "q.sql")


def test_a_fixed_release_inside_the_template_is_an_error() -> None:
    with pytest.raises(IndexerError, match=r"reads idc_v7_clinical\.b, a table of IDC release 7 only"):
        pin("WITH a AS (SELECT 1 FROM `p.idc_v1.a`, `p.idc_v7_clinical.b`) SELECT 1 FROM a", 25, "q.sql")


@pytest.mark.parametrize("release", [0, 25])
def test_text_that_is_not_sql_is_an_error(release: int) -> None:
    with pytest.raises(IndexerError, match=r"^q\.sql: not GoogleSQL: "):
        pin("SELECT 'open FROM `p.idc_current.a`", release, "q.sql")


@pytest.mark.parametrize("release", [23, 24, 25])
@pytest.mark.parametrize("name", CATALOG.indices)
def test_published_text_is_one_query_of_that_release(name: str, release: int) -> None:
    text = CATALOG.indices[name].for_release(release).statement.text
    (tree,) = sqlglot.parse(text, dialect="bigquery")
    assert tree is not None
    databases = {table.db.removesuffix("_clinical") for table in tree.find_all(sqlglot.exp.Table) if table.db}
    prior = (
        {f"idc_v{number}" for number in range(1, release)}
        if name in ("prior_versions_index", "series_history")
        else set()
    )
    assert databases == prior | {f"idc_v{release}"}
    assert text.startswith("--")


# --- What a statement reads and returns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "dicom"),
    [
        ("SELECT PixelSpacing[SAFE_OFFSET(0)] AS a, ImageType AS b FROM @dicom", {"PixelSpacing", "ImageType"}),
        ("SELECT d.Rows AS Columns FROM @dicom AS d WHERE d.Modality = 'CT' ORDER BY d.Rows", {"Rows", "Modality"}),
        ("SELECT s.SegmentLabel FROM @dicom, UNNEST(SegmentSequence) AS s", {"SegmentSequence.SegmentLabel"}),
        ("SELECT s.SegmentLabel FROM @dicom AS d, d.SegmentSequence AS s", {"SegmentSequence.SegmentLabel"}),
        (
            "SELECT (SELECT MIN(c.CodeMeaning) FROM UNNEST(SpecimenDescriptionSequence[SAFE_OFFSET(0)]"
            ".SpecimenPreparationSequence) AS p, UNNEST(p.SpecimenPreparationStepContentItemSequence) AS i, "
            "UNNEST(i.ConceptCodeSequence) AS c WHERE i.ConceptNameCodeSequence[SAFE_OFFSET(0)].CodeValue = '1') AS m "
            "FROM @dicom",
            {
                "SpecimenDescriptionSequence.SpecimenPreparationSequence.SpecimenPreparationStepContentItemSequence."
                + end
                for end in ("ConceptCodeSequence.CodeMeaning", "ConceptNameCodeSequence.CodeValue")
            },
        ),
        (
            "SELECT ARRAY(SELECT v.SegmentNumber FROM UNNEST(SegmentSequence) AS v WITH OFFSET AS o ORDER BY o) AS a, "
            "ARRAY(SELECT v.GraphicType FROM UNNEST(AnnotationGroupSequence) AS v ORDER BY v.GraphicType) AS b "
            "FROM @dicom",
            {"SegmentSequence.SegmentNumber", "AnnotationGroupSequence.GraphicType"},
        ),
        (
            "SELECT d.Modality FROM @dicom AS d LEFT JOIN UNNEST(d.SharedFunctionalGroupsSequence) AS s "
            "WHERE s.PixelMeasuresSequence[SAFE_OFFSET(0)].PixelSpacing[SAFE_OFFSET(0)] = '1'",
            {"Modality", "SharedFunctionalGroupsSequence.PixelMeasuresSequence.PixelSpacing"},
        ),
        (
            "WITH a AS (SELECT PatientID AS p, Rows AS r FROM @dicom), b AS (SELECT r AS PatientSex FROM a) "
            "SELECT PatientSex FROM b",
            {"PatientID", "Rows"},
        ),
        ("SELECT x FROM @dicom, UNNEST(SPLIT(PatientID, '^')) AS x WITH OFFSET AS PatientAge", {"PatientID"}),
    ],
)
def test_leaves(sql: str, dicom: set[str]) -> None:
    assert leaves(sql) == {"dicom_all": dicom}


def test_leaves_of_correlated_subqueries_belong_to_their_own_tables() -> None:
    sql = (
        "SELECT collection_name, (SELECT MIN(Modality) FROM @dicom WHERE collection_id = c.collection_id) AS m "
        "FROM @collections AS c WHERE EXISTS (SELECT 1 FROM @dicom AS d WHERE d.PatientID = c.species)"
    )
    assert leaves(sql) == {
        "dicom_all": {"Modality", "collection_id", "PatientID"},
        "original_collections_metadata": {"collection_name", "collection_id", "species"},
    }


LICENSE = {f"sources.license.license_{part}" for part in ("url", "long_name", "short_name")}


def test_a_record_stands_for_all_its_leaves() -> None:
    (whole,) = leaves("SELECT sources FROM @collections").values()
    assert len(whole) == 16
    assert whole > LICENSE | {"sources.provenance.data_contributor", "sources.Access"}
    at_24 = analyze(f"SELECT sources FROM {COLLECTIONS.replace('25', '24')}", SOURCES, "q.sql").leaves
    assert whole - {leaf.path for leaf in at_24} == {path for path in whole if "provenance" in path}


def test_a_field_is_read_without_its_neighbours() -> None:
    (read,) = leaves("SELECT s.license, s.provenance.data_contributor FROM @collections, UNNEST(sources) AS s").values()
    assert read == LICENSE | {"sources.provenance.data_contributor"}
    (read,) = leaves("SELECT sources[SAFE_OFFSET(0)].license AS a FROM @collections").values()
    assert read == LICENSE


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SOPInstanceUID, SegmentSequence FROM @dicom",
        "WITH a AS (SELECT SOPInstanceUID, SegmentSequence AS s FROM @dicom) "
        "SELECT a.SOPInstanceUID, v.SegmentLabel FROM a, UNNEST(a.s) AS v",
        "WITH a AS (SELECT SOPInstanceUID, v FROM @dicom, UNNEST(SegmentSequence) AS v) SELECT a.v.SegmentLabel FROM a",
    ],
)
def test_a_sequence_read_without_its_fields_is_an_error(sql: str) -> None:
    """The toolkit does not know all fields that it may have."""
    with pytest.raises(IndexerError, match=r"^q\.sql: .*SegmentSequence"):
        leaves(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SOPInstanceUID, (SELECT COUNT(*) FROM UNNEST(SegmentSequence)) AS n FROM @dicom",
        "SELECT SOPInstanceUID FROM @dicom WHERE EXISTS (SELECT 1 FROM UNNEST(SegmentSequence) AS s)",
    ],
)
def test_a_sequence_that_is_only_counted_is_an_error(sql: str) -> None:
    with pytest.raises(IndexerError, match=r"^q\.sql: .*SegmentSequence"):
        leaves(sql)


@pytest.mark.parametrize("sql", ["SELECT COUNT(*) AS n FROM @dicom", "SELECT 1 AS n FROM @dicom AS d, @dicom AS e"])
def test_a_table_without_a_column_that_is_read_is_an_error(sql: str) -> None:
    with pytest.raises(IndexerError, match=r"^q\.sql: .*idc_v25\.dicom_all"):
        leaves(sql)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT a.x FROM `bigquery-public-data.idc_v25.nowhere` AS a", "table idc_v25.nowhere is not known.*sources"),
        ("SELECT x FROM `other.idc_v25.dicom_all`", "table other.idc_v25.dicom_all is not one of IDC's"),
        ("SELECT x FROM `bigquery-public-data.idc_v25`.a.b", "is not one of IDC's"),
        ("SELECT PatientID FROM dicom_all", "dicom_all"),
        ("SELECT nothing FROM @dicom", "nothing"),
        ("SELECT x FROM @dicom, UNNEST(SPLIT(nothing, '^')) AS x", "nothing"),
        ("SELECT PatientID, nothing FROM @dicom", "line 1: there is no column nothing"),
        ("SELECT patientid, PatientID FROM @dicom", "there is no column patientid\nDid you mean PatientID"),
        ("SELECT x.PatientID FROM @dicom AS d", "line 1: no table is called x here"),
        ("SELECT s.nothing FROM @dicom, UNNEST(SegmentSequence) AS s", "has no field nothing in SegmentSequence"),
        ("SELECT sources[SAFE_OFFSET(0)].nope AS a FROM @collections", "has no field nope in sources"),
        ("SELECT s.license.nope FROM @collections, UNNEST(sources) AS s", "has no field nope in sources.license"),
        ("SELECT PatientID.x AS a FROM @dicom", "PatientID"),
        ("SELECT CancerTypes FROM @collections", "no column CancerTypes: only releases 1 to 23 have it"),
        ("SELECT c.Sources FROM @collections AS c", "no column Sources: only releases 1 to 23 have it"),
    ],
)
def test_a_missing_table_column_or_field_is_named(sql: str, message: str) -> None:
    with pytest.raises(IndexerError, match=f"(?s)^q.sql: .*{message}"):
        leaves(sql)


def test_a_column_of_a_later_release_is_named() -> None:
    old = "`bigquery-public-data.idc_v15.dicom_all`"
    with pytest.raises(IndexerError, match=r"idc_v15\.dicom_all has no column aws_bucket: only release 17 and"):
        analyze(f"SELECT PatientID, aws_bucket FROM {old}", SOURCES, "q.sql")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1 AS a; SELECT 2 AS a", "exactly one SELECT"),
        ("DECLARE x INT64; SELECT 1 AS a", "exactly one SELECT"),
        ("INSERT INTO `t` (id) VALUES (1)", "exactly one SELECT"),
        ("CREATE TABLE x AS SELECT 1 AS a", "exactly one SELECT"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", ""),
        ("-- nothing\n", "exactly one SELECT"),
        ("", "exactly one SELECT"),
        ("SELECT id FROM `t` WHERE", "not GoogleSQL"),
        ("SELECT 'open FROM `t`", "not GoogleSQL"),
        # GoogleSQL rejects these, or they mean something else to it
        ("SELECT AS STRUCT id, n FROM `t`", "STRUCT"),
        ("SELECT AS VALUE id FROM `t`", "VALUE"),
        ("SELECT * FROM `t` ORDER BY id", ""),
        ("SELECT a.* FROM `t` AS a ORDER BY id", ""),
        ("SELECT COUNT(*) AS k FROM (SELECT DISTINCT * FROM `t` WHERE id > 1)", ""),
        ("SELECT id, n AS id FROM `t`", r"\bid\b"),
        ("SELECT id, ROUND(f, 2.0) AS k FROM `t`", "ROUND"),
        ("SELECT id, ROUND(f, '2') AS k FROM `t`", "ROUND"),
        ("SELECT id, n / 'a' AS k FROM `t`", "/ mixes INT64 and STRING: n / .a."),
    ],
)
def test_statements_that_cannot_be_an_index_are_rejected(sql: str, message: str) -> None:
    with pytest.raises(IndexerError, match=rf"^it\.sql: .*{message}") as caught:
        to_duckdb(statement(sql), "it.sql")
    assert "\x1b" not in str(caught.value)  # sqlglot underlines with escape sequences


@pytest.mark.parametrize(
    ("sql", "restrictions"),
    [
        ("SELECT id FROM `t` WHERE n = 1 AND s IN ('a', 'b')", {"idc_v25.t": "\"n\" = 1 AND \"s\" IN ('a', 'b')"}),
        ("SELECT a.id FROM `t` AS a WHERE a.n = 1", {"idc_v25.t": '"n" = 1'}),
        (
            "SELECT a.id, (SELECT MIN(b.f) FROM `t` AS b WHERE b.n = 1) AS k FROM `t` AS a WHERE a.n = 1",
            {"idc_v25.t": '"n" = 1'},
        ),
        ("SELECT a.id, x FROM `t` AS a, UNNEST(a.xs) AS x WHERE a.n = 1 AND x = 'y'", {"idc_v25.t": '"n" = 1'}),
        ("SELECT a.id, (SELECT MIN(b.f) FROM `t` AS b WHERE b.n = 2) AS k FROM `t` AS a WHERE a.n = 1", {}),
        ("SELECT a.id, (SELECT MIN(b.f) FROM `t` AS b) AS k FROM `t` AS a WHERE a.n = 1", {}),
        ("SELECT a.id, (SELECT MIN(b.f) FROM `t` AS b WHERE a.n = 1) AS k FROM `t` AS a WHERE a.n = 1", {}),
        ("SELECT a.id FROM `t` AS a JOIN `t` AS b ON a.id = b.id WHERE a.n = 1", {}),
        ("SELECT id FROM `t` WHERE n = 1 OR s = 'a'", {}),
        ("SELECT id FROM `t` WHERE n > 1", {}),
        ("SELECT id FROM `t`", {}),
    ],
)
def test_conditions_of_all_rows_that_a_statement_reads(sql: str, restrictions: dict[str, str]) -> None:
    assert to_duckdb(statement(f"{sql} ORDER BY id"), "it.sql").restrictions == restrictions


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("- ", ""), ("[", "][SAFE_OFFSET(0)]"), ("ABS(", ")")])
def test_expressions_that_are_nested_too_deeply(before: str, after: str) -> None:
    def translated(depth: int) -> str:
        return to_duckdb(statement(f"SELECT id, {before * depth} id{after * depth} AS k FROM `t`"), "it.sql").sql

    with pytest.raises(IndexerError, match=r"^it\.sql: expressions are nested too deeply"):
        translated(5_000)
    # Each step needs another depth of the stack, so each may be the one that fails.
    for depth in range(20, 400, 20):
        with suppress(IndexerError):
            assert "k" in translated(depth)


def test_types_and_order_of_the_result() -> None:
    it = statement(
        "WITH q AS (SELECT id, COUNT(*) AS n, SUM(n) / 8 AS f, MIN(d) AS d FROM `t` GROUP BY id) "
        "SELECT q.n, ROUND(q.f, 2) AS r, q.d, q.id = 1 AS b, a.xs, a.rec, ARRAY(SELECT AS STRUCT v.a, v.deep "
        "FROM UNNEST(a.recs) AS v WITH OFFSET AS o ORDER BY o) AS nested, 0.5 AS h, 'x' AS s "
        "FROM q JOIN `t` AS a ON a.id = q.id ORDER BY n DESC, s, 3"
    )
    assert it.returns == (
        ("n", "INT64"),
        ("r", "FLOAT64"),
        ("d", "DATE"),
        ("b", "BOOL"),
        ("xs", "ARRAY<STRING>"),
        ("rec", "STRUCT<a STRING, c INT64, x FLOAT64>"),
        ("nested", "ARRAY<STRUCT<a STRING, deep ARRAY<STRUCT<z STRING>>>>"),
        ("h", "FLOAT64"),
        ("s", "STRING"),
    )
    assert it.order == ("n DESC", "s", "d")


@pytest.mark.parametrize(
    "order",
    [
        "CAST(id AS STRING)",
        "id + 0",
        "a.n",
        "id NULLS LAST",
        "id DESC NULLS FIRST",
        "IF(b, 1, 2)",
        "rec.c",
        "ROUND(f, 1)",
    ],
)
def test_only_columns_of_the_result_are_an_order(order: str) -> None:
    """None of these statements sorts by what a schema calls `id`, `id DESC` or `n`."""
    sql = f"SELECT id, r AS n FROM `t` AS a ORDER BY {order}"
    assert not {"id", "id DESC", "n", "c", "f"} & set(statement(sql).order)


# --- Unsupported constructs -------------------------------------------------------------------------------------


def test_each_unsupported_construct_is_named_with_its_line() -> None:
    it = statement("SELECT\n  id,\n  APPROX_COUNT_DISTINCT(s) AS k,\n  1 + STDDEV(\n    n) AS m\nFROM `t`\nGROUP BY id")
    with pytest.raises(IndexerError) as caught:
        to_duckdb(it, "q.sql")
    assert caught.value.message.splitlines() == [
        f"q.sql: line 3: APPROX_COUNT_DISTINCT {NOT_SUPPORTED}; write COUNT(DISTINCT x)",
        f"q.sql: line 4: STDDEV {NOT_SUPPORTED}",
    ]
    assert "--engine bigquery" in caught.value.hint


def test_the_hint_is_supported_itself() -> None:
    """A hint must not name another unsupported construct."""
    with pytest.raises(IndexerError) as caught:
        to_duckdb(statement("SELECT id, n / id AS k FROM `t`"), "q.sql")
    if "SAFE_DIVIDE" in str(caught.value):
        to_duckdb(statement("SELECT id, SAFE_DIVIDE(n, id) AS k FROM `t`"), "q.sql")


def test_each_prior_release_becomes_one_extract() -> None:
    index: Any = CATALOG.indices["prior_versions_index"].for_release(4)
    translation = to_duckdb(index.statement, index.query_file)
    assert [extract.release for extract in translation.prior_extracts] == [1, 2, 3]
    for extract in translation.prior_extracts:
        assert f'"idc_v{extract.release}.dicom_all"' in extract.sql
        assert set(re.findall(r"idc_v\d+", extract.sql)) == {f"idc_v{extract.release}"}
    assert '"prior_rows"' in translation.sql
    assert '"idc_v4.dicom_all"' in translation.sql
    assert not to_duckdb(CATALOG.indices["idc_index"].for_release(25).statement, "q.sql").prior_extracts

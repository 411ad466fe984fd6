"""`croissant.json`: the release in Croissant 1.1, and the same facts as schema.org JSON-LD for the report.

Columns of plain values, and arrays of them, can be loaded as records. Croissant has no way to load arrays of records
from Parquet, so columns that hold records are described in the text of their table and are no fields.
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import json
from typing import Any

from idc_indexer.release.about import ABOUT, CITATION, HOMEPAGE, KEYWORDS
from idc_indexer.release.descriptions.description import Description, LicenseShare, TableDescription
from idc_indexer.schema.column import Column

_VERSION = "http://mlcommons.org/croissant/1.1"
_TYPES = {
    "STRING": "sc:Text",
    "INTEGER": "sc:Integer",
    "FLOAT": "sc:Float",
    "BOOLEAN": "sc:Boolean",
    "DATE": "sc:Date",
    "TIME": "sc:Time",
    "TIMESTAMP": "sc:DateTime",
    "DATETIME": "sc:DateTime",
    "NUMERIC": "sc:Number",
}
# Terms of the vocabulary that stand for themselves, as the specification lists them.
_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS},
}


def document(description: Description) -> bytes:
    """The content of `croissant.json`."""
    croissant = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        **_about(description),
        "citeAs": CITATION,
        "isLiveDataset": False,
        "distribution": [_file(table) for table in description.tables],
        "recordSet": [_records(table) for table in description.tables],
    }
    return (json.dumps(croissant, indent=1, ensure_ascii=False) + "\n").encode()


def schema_org(description: Description) -> dict[str, Any]:
    """The release as search engines for datasets read it.

    https://developers.google.com/search/docs/appearance/structured-data/dataset
    """
    names = (column.name for table in description.tables for column in table.schema.columns)
    found = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        **_about(description),
        "citation": CITATION,
        "isAccessibleForFree": True,
        "variableMeasured": list(dict.fromkeys(names)),
        # no `@id`, which here would be the address of another page
        "distribution": [
            {key: value for key, value in _file(table).items() if key != "@id"} | {"@type": "DataDownload"}
            for table in description.tables
        ],
    }
    if description.licenses:  # a text is no licence here, but the name of a work or its address is
        found["license"] = [_work(license) for license in description.licenses]
    return found


def _work(license: LicenseShare) -> dict[str, str]:
    return {"@type": "CreativeWork", "name": license.name} | ({"url": license.url} if license.url else {})


def _about(description: Description) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": "IDC indices",
        "alternateName": "idc-index-data",
        "description": ABOUT,
        "version": description.release.release_version,
        "url": HOMEPAGE,
        "identifier": description.address,
        "keywords": list(KEYWORDS),
        "creator": {"@type": "Organization", "name": "NCI Imaging Data Commons", "url": HOMEPAGE},
        "publisher": {"@type": "Organization", "name": "NCI Imaging Data Commons", "url": HOMEPAGE},
    }
    if description.date:
        about["datePublished"] = description.date
    if description.licenses:
        about["license"] = [one.name for one in description.licenses]
    return about


def _file(table: TableDescription) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": table.parquet.name,
        "name": table.parquet.name,
        "description": table.schema.description,
        "contentUrl": table.url,
        "contentSize": f"{table.parquet.bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": table.parquet.sha256,
    }


def _records(table: TableDescription) -> dict[str, Any]:
    flat = [column for column in table.schema.columns if not column.fields]
    text = table.schema.description
    for column in table.schema.columns:
        if column.fields:
            fields = "; ".join(f"{one.name}: {one.description}" for one in column.fields)
            text += (
                f" Column {column.name} holds records, which cannot be loaded from here: {column.description} {fields}"
            )
    records: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": text,
    }
    if key := [name for name in table.schema.primary_key if name in {column.name for column in flat}]:
        records["key"] = [{"@id": f"{table.name}/{name}"} for name in key]
    records["field"] = [_field(table, column) for column in flat]
    return records


def _field(table: TableDescription, column: Column) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table.name}/{column.name}",
        "name": column.name,
        "description": column.description,
        "dataType": _TYPES[column.type],
    }
    if column.mode == "REPEATED":
        field |= {"isArray": True, "arrayShape": "-1"}
    source = {"fileObject": {"@id": table.parquet.name}, "extract": {"column": column.name}}
    # No `references`: loaders join by them, and return fewer records than the table has rows.
    return {**field, "source": source}

"""Regenerate `schemas/sources/dicom_types.json`: the BigQuery type of every DICOM attribute.

The rule (which the Healthcare API follows when it exports DICOM to BigQuery) takes VR and VM from
the DICOM data dictionary (PS3.6), here as pydicom carries it. Attributes that the tables cannot
hold (binary ones, person names, ranges of tags) are left out.

    python -m tests.support.dicom_types > schemas/sources/dicom_types.json
"""

from __future__ import annotations

import json
import sys

from pydicom._dicom_dict import DicomDictionary

VR_TYPES = (
    dict.fromkeys(["AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT", "DS", "IS"], "STRING")
    | dict.fromkeys(["US", "UL", "SS", "SL", "AT"], "INTEGER")
    | {"FL": "FLOAT", "FD": "FLOAT", "DA": "DATE", "TM": "TIME", "DT": "TIMESTAMP", "SQ": "RECORD"}
)


def bigquery_types() -> dict[str, str]:
    """BigQuery type by DICOM keyword, `[]` after the type of a REPEATED column, sorted by keyword."""
    types = {}
    for vr, vm, _name, _retired, keyword in DicomDictionary.values():
        # "US or SS": the attribute is an integer of one or the other signedness
        kinds = {VR_TYPES.get(part) for part in vr.split(" or ")}
        if keyword and len(kinds) == 1 and (kind := kinds.pop()):
            types[keyword] = kind + ("[]" if vm != "1" or vr == "SQ" else "")
    return dict(sorted(types.items()))


if __name__ == "__main__":
    json.dump(bigquery_types(), sys.stdout, indent=0)
    print()

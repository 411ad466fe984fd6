"""Prints, as JSON, what the idc-index client answers from the data package that is installed. Without network."""

import json
import logging
import tempfile
from pathlib import Path

import pandas as pd
from idc_index import IDCClient

logging.disable(logging.CRITICAL)
client = IDCClient()
# The published order of prior_versions_index is not total: where rows are equal in it, ours goes on by the key.
prior = client.prior_versions_index.sort_values(list(client.prior_versions_index.columns), ignore_index=True)
frames = {"index": client.index, "prior_versions_index": prior}


def digest(frame: pd.DataFrame) -> list[object]:
    """Names, number of rows, and a digest of all cells and where they are."""
    return [list(frame.columns), len(frame), str(pd.util.hash_pandas_object(frame, index=True).sum())]


def rows(query: str) -> list[list[object]]:
    found: list[list[object]] = json.loads(client.sql_query(query).to_json(orient="values", date_format="iso"))
    return found


study = rows("SELECT StudyInstanceUID, PatientID FROM index WHERE collection_id = 'tcga_luad' ORDER BY ALL LIMIT 1")[0]
series = [uid for (uid,) in rows("SELECT SeriesInstanceUID FROM index ORDER BY md5(SeriesInstanceUID) LIMIT 20")]
urls = [url for (url,) in rows("SELECT series_aws_url FROM index ORDER BY md5(SeriesInstanceUID) LIMIT 20")]
urls += [url for (url,) in rows("SELECT series_aws_url FROM prior_versions_index ORDER BY ALL LIMIT 5")]
with tempfile.TemporaryDirectory() as folder:
    manifest = Path(folder, "manifest.s5cmd")
    manifest.write_text("".join(f"cp {url} .\n" for url in urls))
    size, endpoint, _, folders, checked = client._validate_update_manifest_and_get_download_size(
        str(manifest), folder, False, False, client.DOWNLOAD_HIERARCHY_DEFAULT
    )
    client.download_from_selection(folder, dry_run=True, collection_id="tcga_luad", patientId=study[1])
    chosen = client._safe_filter_by_selection(client.index, "rider_pilot", None, None, None, None, None)
    by_manifest = [round(size, 6), endpoint, sorted(str(f).replace(folder, "") for f in folders or []), checked is None]
schema = client.get_index_schema("index")
answers = {
    "version": client.get_idc_version(),
    "collections": client.get_collections(),
    "patients": client.get_patients("tcga_luad", "list"),
    "studies": client.get_dicom_studies(study[1], "dict"),
    "series": client.get_dicom_series(study[0], "dict"),
    "series sizes": [client.get_series_size(uid) for uid in series],
    "viewer": [client.get_viewer_URL(seriesInstanceUID=uid) for uid in series],
    "manifest": by_manifest,
    "selection": chosen["SeriesInstanceUID"].tolist(),
    "columns": [[c["name"], c["type"], c["mode"]] for c in schema["columns"]],
    "indices": {
        name: [about["installed"], about["url"], sorted(c["name"] for c in about["schema"]["columns"])]
        for name, about in sorted(client.indices_overview.items())
    },
    "rows": {name: digest(frame) for name, frame in frames.items()},
    "modalities": rows("SELECT collection_id, Modality, sum(instanceCount) FROM index GROUP BY ALL ORDER BY ALL"),
    "summary": json.loads(client.collection_summary["series_size_MB"].round(3).to_json()),
}
print(json.dumps(answers, default=str))

"""`datasets` loads every configuration of a card, from a mirror in a folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from idc_indexer.release.descriptions import card, describe
from idc_indexer.release.manifest import PUBLISHED, Release
from tests.indices.test_description_readers import python

pytestmark = pytest.mark.slow

LOAD = """
import json, os, sys
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": sys.argv[2]}
from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset
mirror = sys.argv[1]
rows = {}
for name in get_dataset_config_names(mirror):
    loaded = load_dataset(mirror, name, split="train")
    rows[name] = [len(loaded), loaded.column_names]
    loaded[0]
print(json.dumps([rows, get_dataset_default_config_name(mirror)]))
"""


def test_every_configuration_is_loaded(sample_release: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in sample_release.glob("*.parquet"):
        (mirror / path.name).symlink_to(path)
    text = card.text(describe(Release.open(sample_release), PUBLISHED), "idc/indices", None)
    (mirror / card.NAME).write_text(text, encoding="utf-8")
    rows, default = python(["datasets"], LOAD, mirror, tmp_path / "home")
    expected = {path.stem: pq.read_table(path) for path in sample_release.glob("*.parquet")}
    assert rows == {name: [table.num_rows, table.column_names] for name, table in expected.items()}
    assert default == "idc_index"

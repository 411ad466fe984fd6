"""Names that come from outside reach nothing but the folder they are meant for; temporary folders do not stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.files import MAX_NAME, local_file, temporary_folder

GOOD = [
    "manifest.json", "idc_index.parquet", "idc_index.parquet.sha256", "ct_index_schema.json", "ct_index.sql",
    "idc_index.csv.zip", "report.html", "idc_index_data-25.0.0rc1-py3-none-any.whl", "000000000000.parquet",
    "part-00000-8f1c.c000.snappy.parquet", "a", "a" * MAX_NAME,
]  # fmt: skip
BAD = [
    "", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:x", "a/../b", "x\n.parquet", "x\x1b[31m.parquet", "x\0",
    ".hidden", "-rf", "x.", "x ", " x", "nul", "NUL.parquet", "com1.sql", "é.parquet", "ａ.parquet", "x\u202ey",
    "a" * (MAX_NAME + 1), "~", "$HOME", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_of_a_release(tmp_path: Path, name: str) -> None:
    assert local_file(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", BAD)
def test_other_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(IndexerError, match="is not a file name that a release can have") as error:
        local_file(tmp_path, name)
    assert error.value.message.isprintable()
    assert len(error.value.message) < 400


@given(st.text(alphabet=st.sampled_from("aZ0_-./\\:\n\0~ é\u202e"), max_size=12))
def test_a_name_lands_in_its_folder_or_nowhere(name: str) -> None:
    try:
        path = local_file(Path("/folder"), name)
    except IndexerError:
        return
    assert path.parent == Path("/folder")
    assert path.resolve() == path
    assert path.name == name


HOLD = """
import sys, time
from pathlib import Path
from idc_indexer.files import temporary_folder
with temporary_folder(".wheel-", Path(sys.argv[1])) as folder:
    (folder / "x").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 3600,) * 2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_folders_of_killed_processes_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    (bystander := tmp_path / ".wheel").mkdir()
    processes, folders = [], []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        processes.append(process)
        folders.append(Path(process.stdout.readline().strip()))
    dead, alive = processes
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    for folder in folders:
        age(folder)
    with temporary_folder(".wheel-", tmp_path) as mine:
        assert [folder.exists() for folder in (*folders, mine, bystander)] == [False, True, True, True]
    alive.kill()
    alive.communicate()
    age(folders[1])
    with temporary_folder(".wheel-", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [bystander]

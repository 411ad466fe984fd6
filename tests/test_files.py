"""Names that come from outside reach nothing but the folder they are meant for; locks hold, or say why not."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.files import MAX_NAME, NO_LOCKS, local_file, lock

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


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    program = "import sys, pathlib, idc_indexer.files as f\nwith f.lock(pathlib.Path(sys.argv[1]), 0): pass"
    command = [sys.executable, "-c", program, str(path)]
    with lock(path):
        assert "Timeout" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
        with pytest.raises(filelock.Timeout), lock(path, timeout=0):
            pass
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="every file system of Windows has locks")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Lustre mounted without -o flock, some network file systems. A lock file that is there already changes nothing."""

    def flock(*_: object) -> None:
        raise OSError(code, "no locks")

    (tmp_path / ".lock").touch()
    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(IndexerError, match=f"{tmp_path}: its file system has no locks: ") as caught,
        lock(tmp_path / ".lock"),
    ):
        pass
    assert NO_LOCKS in caught.value.hint
    monkeypatch.setenv(NO_LOCKS, "1")
    with lock(tmp_path / ".lock"):
        pass

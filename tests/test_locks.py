"""Locks, and file systems that have none."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from idc_indexer import locks
from tests.conftest import Start, contents

posix = pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")

WITHOUT = """
import fcntl
def flock(*_):
    raise OSError({number}, "as on such a file system")
def lockf(*_):
    raise OSError({number}, "as on such a file system")
fcntl.flock, fcntl.lockf = flock, lockf
"""


# The same for every library in the process, not only for Python, and for the files below a folder.
WITHOUT_IN_C = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int without(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path);
    return size >= (ssize_t)strlen(BELOW) && !strncmp(path, BELOW, strlen(BELOW));
}
static int call(const char *name, int file, int command, void *argument) {
    int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK;
    if (locks && without(file)) { errno = ERROR; return -1; }
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, name))(file, command, argument);
}
#define WRAP(name) int name(int file, int command, ...) { va_list rest; va_start(rest, command); \
    void *argument = va_arg(rest, void *); va_end(rest); return call(#name, file, command, argument); }
WRAP(fcntl)
WRAP(fcntl64)
int flock(int file, int operation) {
    if (without(file)) { errno = ERROR; return -1; }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(file, operation);
}
"""


def test_shared_and_sole(tmp_path: Path) -> None:
    path = tmp_path / "use"
    with locks.shared(path), locks.shared(path, 0), pytest.raises(locks.Timeout), locks.sole(path, 0):
        pass
    with locks.sole(path, 0), pytest.raises(locks.Timeout), locks.shared(path, 0.1):
        pass
    with locks.exclusive(path), pytest.raises(locks.Timeout), locks.exclusive(path, 0):
        pass
    with locks.sole(path, 0):
        pass


@posix
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(number: int, start: Start, out: Path, sample_release: Path) -> None:
    """A warning for each folder, once; the build does what it always does."""
    process = start("sample", "prior_versions_index", first=WITHOUT.format(number=number))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    warnings = [line for line in errors.splitlines() if "without locks" in line]
    assert len(warnings) == len(set(warnings)) >= 2
    assert any(str(out.parent) in line and "--out" in line for line in warnings), warnings
    assert any("cache" in line and "--cache-dir" in line for line in warnings), warnings
    name = "prior_versions_index.parquet"
    assert contents(out)[name] == contents(sample_release)[name]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="preloads a library made by cc")
def test_no_library_needs_locks(
    start: Start, out: Path, sample_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.c").write_text(WITHOUT_IN_C)
    library = tmp_path / "none.so"
    compile_it = [
        "cc",
        "-shared",
        "-fPIC",
        f"-DERROR={errno.ENOLCK}",
        f'-DBELOW="{tmp_path}"',
        "-o",
        str(library),
        "none.c",
        "-ldl",
    ]
    subprocess.run(compile_it, check=True, cwd=tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    process = start("sample", "prior_versions_index")
    monkeypatch.delenv("LD_PRELOAD")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "without locks" in errors
    name = "prior_versions_index.parquet"
    assert contents(out)[name] == contents(sample_release)[name]


@posix
def test_without_the_module_sqlite3(start: Start) -> None:
    process = start("sample", "prior_versions_index", first="import sys; sys.modules['sqlite3'] = None")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

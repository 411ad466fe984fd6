"""The readers in use can read a release: every file, every cell.

Each reader has an environment of its own, made once by pip or npm and kept in the cache of the tests.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import once

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "readers"
AS_JSON = """
import json, os, sys
def plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value))
print(json.dumps({rows}, default=plain), flush=True)
os._exit(0)  # older releases of pyarrow may crash while the interpreter ends, their work done
"""
PANDAS = "__import__('pandas').read_parquet(sys.argv[1]).to_dict('records')"
PYARROW = "__import__('pyarrow.parquet').parquet.read_table(sys.argv[1]).to_pylist()"
POLARS = "__import__('polars').read_parquet(sys.argv[1]).to_dicts()"
DUCKDB = "(r := __import__('duckdb').read_parquet(sys.argv[1])) and [dict(zip(r.columns, row)) for row in r.fetchall()]"
FASTPARQUET = "__import__('fastparquet').ParquetFile(sys.argv[1]).to_pandas().to_dict('records')"
DATAFUSION = "__import__('datafusion').SessionContext().read_parquet(sys.argv[1]).to_pylist()"
# The newest, and what was the newest two years ago.
READERS = {
    "pandas": ("pandas pyarrow", PANDAS),
    "pandas of 2024": ("pandas==2.2.3 pyarrow==18.0.0", PANDAS),
    "pyarrow of 2024": ("pyarrow==18.0.0", PYARROW),
    "polars": ("polars", POLARS),
    "polars of 2024": ("polars==1.13.1", POLARS),
    "duckdb": ("duckdb", DUCKDB),
    "duckdb 1.0": ("duckdb==1.0.0", DUCKDB),
    "datafusion": ("datafusion pyarrow", DATAFUSION),  # the crate parquet of Rust
    "fastparquet": ("fastparquet pandas", FASTPARQUET),
}
# It reads neither records nor arrays.
FLAT = {"fastparquet"}
SPARK = "pyspark==3.2.4"
# What Spark 3.2 does to Java's own classes is closed since Java 16.
OPENED = ("java.nio", "sun.nio.ch", "java.lang", "java.lang.invoke", "java.util")


def environment(name: str) -> Path:
    cache = Path(os.environ.get("IDC_INDEXER_TEST_CACHE") or platformdirs.user_cache_path("idc-indexer") / "tests")
    return cache / "readers" / name.replace(" ", "-")


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def python(name: str) -> Path:
    """The interpreter of a reader's environment."""

    def make(folder: Path) -> None:
        # Packages are found beside the script, so that the environment can be moved into place.
        run(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *READERS[name][0].split())

    return once(environment(name), make)


def node() -> Path:
    """A folder with the programs for node as they are now, and their packages."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")

    packages = HERE / "package.json"

    def make(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(packages, folder)
        run("npm", "install", "--silent", "--prefix", folder)

    folder = once(environment(f"node-{hashlib.sha256(packages.read_bytes()).hexdigest()[:12]}"), make)
    for path in HERE.glob("*.mjs"):
        shutil.copy(path, folder)
    return folder


def same(read: Any, expected: Any) -> bool:
    """Equal, but for how a reader tells NULL, a number's type, and an array."""
    if isinstance(read, float) and math.isnan(read):
        read = None
    if isinstance(expected, dict):
        return isinstance(read, dict) and all(same(read.get(name), value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(read or []) == len(expected) and all(map(same, read or [], expected))
    return bool(read == expected)


def check(release: Path, read: Any, flat: bool = False) -> None:
    files = sorted(release.glob("*.parquet"))
    assert len(files) > 17
    for file in files:
        table = pq.read_table(file)
        if flat:
            table = table.select([field.name for field in table.schema if not pa.types.is_nested(field.type)])
        rows, expected = read(file), table.to_pylist()
        assert len(rows) == len(expected), file.name
        different = [(one, other) for one, other in zip(rows, expected, strict=True) if not same(one, other)]
        assert not different, (file.name, different[0])


@pytest.mark.parametrize("name", READERS)
def test_python(name: str, sample_release: Path) -> None:
    folder = python(name)
    script = AS_JSON.format(rows=READERS[name][1])

    def read(file: Path) -> Any:
        done = subprocess.run(
            [sys.executable, "-S", "-c", script, file],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (file.name, done.stderr[-2000:])
        return json.loads(done.stdout)

    check(sample_release, read, flat=name in FLAT)


def test_spark(sample_release: Path) -> None:
    """Spark 3.2 reads no DELTA_LENGTH_BYTE_ARRAY."""
    if not shutil.which("java"):
        pytest.skip("Java is not installed")

    def make(folder: Path) -> None:
        # Unpacked, not installed: the setup of this release needs a Python of its time.
        pip = (
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            folder,
        )
        run(*pip, SPARK)
        (archive,) = folder.glob("*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")
        archive.unlink()

    (home,) = once(environment(SPARK), make).glob("pyspark-*")
    (py4j,) = home.glob("lib/py4j-*.zip")
    files = sorted(sample_release.glob("*.parquet"))
    done = subprocess.run(
        [sys.executable, HERE / "read_spark.py", *files],
        env={
            **os.environ,
            "SPARK_HOME": str(home / "deps"),
            "PYTHONPATH": os.pathsep.join(map(str, (home, py4j))),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JAVA_TOOL_OPTIONS": " ".join(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = dict(zip(files, done.stdout.splitlines(), strict=True))
    check(sample_release, lambda file: json.loads(read[file]))


@pytest.mark.parametrize("script", ["read_hyparquet.mjs", "read_duckdb_wasm.mjs"])
def test_javascript(script: str, sample_release: Path) -> None:
    folder = node()
    check(sample_release, lambda file: json.loads(run("node", folder / script, file)))

"""Rows of Parquet files as JSON, one line a file, read by Spark."""

import json
import sys

from pyspark.sql import SparkSession

local = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
builder = SparkSession.builder.master("local[1]")
for name, value in local.items():
    builder = builder.config(name, value)
session = builder.getOrCreate()
for path in sys.argv[1:]:
    print(json.dumps([row.asDict(recursive=True) for row in session.read.parquet(path).collect()]), flush=True)

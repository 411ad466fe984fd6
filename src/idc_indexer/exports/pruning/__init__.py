"""Surgery on the bytes of Parquet files: copy the needed column chunks of a shard under a new footer."""

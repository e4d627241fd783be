"""What is in the shards: the Parquet file beside them, and what of it is used."""

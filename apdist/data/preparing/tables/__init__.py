"""Lists of images: .csv and .parquet files to items to write."""

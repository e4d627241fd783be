"""Images in object storage to batches."""

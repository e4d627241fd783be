"""What `apdist search` does with the results."""

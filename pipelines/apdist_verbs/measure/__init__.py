"""What `apdist evaluate` does by each protocol."""

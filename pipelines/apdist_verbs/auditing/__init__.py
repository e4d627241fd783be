"""What `apdist audit` looks at, and what it writes."""

"""What `apdist report` shows: of one run, of several beside each other."""

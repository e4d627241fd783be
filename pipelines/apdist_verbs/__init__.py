"""One thin file per job, in the order a user runs them."""

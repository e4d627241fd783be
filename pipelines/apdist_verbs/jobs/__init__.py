"""Jobs on a Ray cluster: submitted, listed, followed, stopped."""

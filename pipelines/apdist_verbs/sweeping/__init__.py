"""Sweeps: what a person asked, the trials that Ray Tune starts, what is shown of them."""

"""Hyper-parameter search: what is tried, in which order, and what came of it."""

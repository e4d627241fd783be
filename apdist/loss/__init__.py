"""Descriptors to loss and gradient."""

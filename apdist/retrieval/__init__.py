"""Descriptors to ranked lists, numbers and pictures."""

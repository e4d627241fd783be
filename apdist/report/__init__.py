"""What a run achieved, as a page."""

"""An index where it is kept: its folder, and how that is written, read and changed."""

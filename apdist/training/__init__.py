"""One optimiser step, and the loop around it."""

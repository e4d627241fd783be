"""One optimiser step over the global batch: describe, score, backprop."""

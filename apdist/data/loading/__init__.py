"""From the plan to batches of pixels: prefetched, decoded in several processes."""

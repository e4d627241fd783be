"""From the plan to batches of pixels: read ahead, decoded in several processes."""

"""Which images make up the batch of a step."""

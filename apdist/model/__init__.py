"""Images to descriptors."""

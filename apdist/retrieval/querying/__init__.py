"""Pictures to what an index holds that looks like them."""

"""Which images are right answers to which queries, where labels do not say it."""

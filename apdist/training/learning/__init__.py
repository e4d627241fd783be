"""What moves while a training goes on, and by which rules."""

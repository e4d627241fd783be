"""The folder of a run: who writes it, its checkpoints, its history."""

"""MLflow: what a run is logged to, in the background, exactly once."""

"""Files of published models, read without running what they ask for."""

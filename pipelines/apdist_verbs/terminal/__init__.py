"""What a person types and sees: options, progress, tables, errors, signals."""

"""Published data sets in the folders that their archives make: official splits, checked counts."""

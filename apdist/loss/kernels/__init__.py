"""The work on one tile of similarities: numba, Triton, plain torch."""

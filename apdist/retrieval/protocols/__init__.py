"""How retrieval is measured: one module a rule, each figure with its convention."""

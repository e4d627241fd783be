"""Train image-retrieval embeddings by optimising mean average precision itself."""

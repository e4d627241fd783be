"""From folders, tables and shards of others to shards and their catalogue."""

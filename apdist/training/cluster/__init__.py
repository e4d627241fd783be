"""Ray: start or join a cluster, run the loop on its workers, listen, stop."""

"""One-time tokens over HTTP: the blueprint /token."""

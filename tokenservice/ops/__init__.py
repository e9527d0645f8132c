"""For operators and readers: probes, metrics, pages and the terminal."""

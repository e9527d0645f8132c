"""How fast the service is: see README.md. ``python -m benchmarks``, or ``make bench``."""

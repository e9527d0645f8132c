"""The benchmark: ``make bench`` or ``python -m benchmarks``; see README.md."""

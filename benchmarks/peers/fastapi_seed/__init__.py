"""A peer of another design: see app.py."""

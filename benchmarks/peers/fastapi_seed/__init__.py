"""A peer with another design: see app.py."""

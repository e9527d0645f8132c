"""Postgres: how long a request waits for it, and when none asks."""

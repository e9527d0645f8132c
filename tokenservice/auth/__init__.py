"""Accounts, and how a caller proves to be one: the blueprint /auth."""

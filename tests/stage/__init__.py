"""Shared parts of the tests: servers, accounts, raw requests and faults."""

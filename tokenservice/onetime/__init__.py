"""Single-use tokens on Redis: a library that knows no Flask, no Postgres and no HTTP."""

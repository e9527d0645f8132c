"""The kind of failure of a store, in words that hold no address, name or password."""

from __future__ import annotations

import re

#: Each kind, and what the errors of libpq, Postgres, redis-py and Redis say of it. The first match
#: counts. libpq has a code for no failed connection, and so there is only its text.
KINDS = {
    "not allowed by pg_hba.conf": r"pg_hba\.conf",
    "wrong user or password": r"password authentication failed|no password supplied|WRONGPASS"
    r"|Authentication\w*Error|NOAUTH",
    "unknown role": r'role "[^"]*" (does not exist|is not permitted to log in)',
    "missing database": r'database "[^"]*" does not exist|DB index is out of range',
    "no permission": r"InsufficientPrivilege|permission denied|NoPermission|NOPERM",
    "unresolved name": r"could not translate host name|gaierror",
    "refused": r"Connection ?[Rr]efused",
    "unreachable": r"No route to host|Network is unreachable",
    "too many connections": r"too many (clients|connections)|remaining connection slots"
    r"|max number of clients|MaxConnections",
    "connection lost": r"closed the connection|closed unexpectedly|[Cc]onnection (already )?closed"
    r"|[Cc]onnection reset|terminating connection|Broken pipe",
    "TLS handshake timed out": r"handshake operation timed out",
    "TLS mismatch": r"\bSSL|certificate|\\x15",
    "timeout": r"[Tt]imed out|Timeout\w*:|timeout expired|in time|QueryCanceled|LockNotAvailable",
    "starting or stopping": r"starting up|shutting down|not yet accepting|in recovery mode"
    r"|BusyLoading|LOADING",
    "no master": r"MasterNotFound|MasterDown|MASTERDOWN",
    "read-only": r"ReadOnly|READONLY|read-only",
    "full": r"OutOfMemory|OOM|No space left|DiskFull",
    "cluster down": r"Cluster",
    "another protocol": r"InvalidResponse|Protocol error|invalid response to SSL|but received",
    "no socket": r"No such file",
    "missing table": r"UndefinedTable|UndefinedColumn",
}


def kind(error: BaseException) -> str:
    """The kind of ``error`` or of its cause, or else the name of its class."""
    said = "\n".join(f"{type(one).__name__}: {one}" for one in causes(error))
    return next((name for name, words in KINDS.items() if re.search(words, said)), "") or (
        type(error).__name__
    )


def causes(error: BaseException | None) -> list[BaseException]:
    """``error`` and what it came from, the driver's own error included."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found

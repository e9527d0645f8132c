"""The audit trail of the calls that use a token or prove a password: JSON lines of a stream apart.

The line of a call is written before its response goes out, whatever ``log_level`` is. It tells the
event, the token and its terms, the caller, its key and its address; never a secret or the data of a
token. Changes of accounts, sessions and keys stand in the table ``audit_events`` instead.
"""

from __future__ import annotations

from typing import Any

from tokenservice.telemetry import logs
from tokenservice.telemetry.calls import Call, call
from tokenservice.telemetry.lines import FileLines, Lines, stderr
from tokenservice.telemetry.logs import View

#: The first member of each line, and the beginning of its text.
STREAM = {"stream": "audit"}
START = logs.ENCODER.encode(STREAM).removesuffix("}")


class Trail:
    """The stream of this process; nowhere until it is configured."""

    def __init__(self) -> None:
        self._lines: Lines | None = None
        self._to: tuple[str, str | None] = "off", None

    def configure(self, to: str, path: str | None) -> None:
        """Write to standard error, to the file ``path``, or nowhere ("off").

        Lines on standard error have a queue apart from the log's, behind which they would wait.
        """
        if (to, path) == self._to:
            return
        self._to = to, path
        if to == "file":
            self._lines = FileLines(path or "")
        else:
            self._lines = Lines() if to == "stderr" else None

    def write(self, answered: Call, status: int) -> None:
        """Write the lines of a call with this status: in the log and, if audited, in the trail.

        Where both go to standard error they go out in one write. Two, one of them by the thread of
        the log, cost a call 3 %.
        """
        shared = logs.shared(answered, status)
        own = logs.own(answered, status, shared)
        if self._lines is None or not answered.is_audited:
            if own:
                stderr.write(logs.line({**shared, **own}))
            return
        told = {**STREAM, **answered.audit, **shared}
        others = told.pop("other_ids", ())
        if own and self._to[0] == "stderr":
            self._lines.write_at_once(both(logs.line({**told, **own})))
        else:
            self._lines.write_at_once(logs.line(told))
            if own:
                stderr.write(logs.line({**shared, **own}))
        for token_id in others:
            self._lines.write_at_once(logs.line({**told, "token_id": token_id}))


def both(text: str) -> str:
    """Both lines of a call, cut from the text of all their members.

    To write them as JSON one by one costs a call 1 %. Within a value each quote has a backslash, so
    that no value looks like a name.

    :param text: the trail's own members, then the shared ones, then the log's own
    """
    start, end = text.index('"endpoint": '), text.index(', "method": ')
    return f"{text[:end]}}}\n{{{text[start:]}"


trail = Trail()


def audited(view: View) -> View:
    """Give each call of a view its line in the trail."""
    view.is_audited = True  # type: ignore[attr-defined]
    return view


def note(**facts: Any) -> None:
    """Add facts to the line of this call in the trail, by names that no fact of the log has.

    ``other_ids`` are further tokens, which have lines of their own.
    """
    told = call().audit
    for name, value in facts.items():
        if value or value == 0:
            told[name] = value

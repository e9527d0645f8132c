"""The audit trail of the calls that use a token or prove a password: JSON lines of a stream apart.

The line of a call is written before its response goes out, whatever ``log_level`` is. It tells the
event, the token and its terms, the caller, its key and its address; never a secret or the data of a
token. Changes of accounts, sessions and keys stand in the table ``audit_events`` instead.
"""

from __future__ import annotations

from typing import Any

from tokenservice.telemetry import logs
from tokenservice.telemetry.calls import Call, call
from tokenservice.telemetry.lines import FileLines, Lines
from tokenservice.telemetry.logs import View

#: The first member of each line, and the beginning of its text.
STREAM = {"stream": "audit"}
START = logs.ENCODER.encode(STREAM).removesuffix("}")
#: Facts of the line in the log that stand here too.
FACTS = ("token_id", "replayed", "field", "code", "limit", "why")


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

    def write(self, answered: Call, status: int, told: dict[str, str]) -> None:
        """Write the line of a call that gets this status, or one for each token of a batch.

        :param told: what it shares with the line in the log
        """
        if self._lines is None or not answered.is_audited:
            return
        facts = answered.facts
        line = {
            **STREAM,
            "event": answered.event or "http.answered",
            **{name: facts[name] for name in FACTS if name in facts},
            **answered.audit,
            "endpoint": answered.endpoint,
            "status": status,
            **told,
        }
        for token_id in line.pop("token_ids", ()) or (None,):
            if token_id:
                line["token_id"] = token_id
            self._lines.write_at_once(logs.render(None, "", line) + "\n")


trail = Trail()


def audited(view: View) -> View:
    """Give each call of a view its line in the trail."""
    view.is_audited = True  # type: ignore[attr-defined]
    return view


def note(**facts: Any) -> None:
    """Add facts to the line of this call in the trail, and to none in the log."""
    told = call().audit
    for name, value in facts.items():
        if value or value == 0:
            told[name] = value

"""The operator behind a command: a name, and a reason."""

from __future__ import annotations

import os
import pwd
from typing import Any

import click

from tokenservice.telemetry.logs import SECRET_TEXTS
from tokenservice.web.plaintext import is_plain

REASON = __name__
MOST_NAME, MOST_REASON = 64, 500


def name() -> str:
    """The operator's name at the system: before ``sudo``, where that was used.

    Anyone with a shell can set the variable. It tells colleagues apart, and proves nothing.
    """
    said = os.environ.get("SUDO_USER", "")
    if not said or not is_plain(said):
        try:
            said = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # As in the container.
            said = f"uid {os.getuid()}"
    return said[:MOST_NAME]


def keep_reason(context: click.Context, _: click.Parameter, text: str | None) -> None:
    """:raises click.BadParameter: it is no short plain text, or has an address or a secret"""
    if not text:
        return
    if len(text) > MOST_REASON or not is_plain(text):
        raise click.BadParameter(f"takes plain text of at most {MOST_REASON} characters")
    # It outlives the account.
    if "@" in text:
        raise click.BadParameter("must not have an @: name accounts by their ids")
    if SECRET_TEXTS.search(text):
        raise click.BadParameter("has the shape of a secret")
    context.meta[REASON] = text


#: The option ``--reason`` of a command. Its event has it, without a word of the command itself.
reason: Any = click.option(
    "--reason",
    callback=keep_reason,
    expose_value=False,
    help="Why, for the audit trail; without names and addresses.",
)


def reason_given() -> str | None:
    context = click.get_current_context(silent=True)
    return context.meta.get(REASON) if context else None

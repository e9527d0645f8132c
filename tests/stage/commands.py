"""Results of ``flask`` commands."""

from __future__ import annotations

import click.testing


def output(result: click.testing.Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(result: click.testing.Result) -> str:
    """What a command that failed in good order says: no traceback, and a code that is not 0."""
    assert result.exit_code in {1, 2}, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return result.stderr

"""Results of ``flask`` commands."""

from __future__ import annotations

import click.testing


def output(result: click.testing.Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(result: click.testing.Result) -> str:
    """The message of a command that fails in good order: no traceback, and a non-zero code."""
    assert result.exit_code in {1, 2}, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return result.stderr

"""Login attempts: how many may fail, counted by whom (NIST SP 800-63B-4 section 3.2.2).

An attempt is judged by address, then by address and account, network and account, and account.
What one of them refuses, none counts: otherwise refused guesses would shut the owner out. For the
same reason one network has but a small share of an account's failures, and a network from which
its owner logged in has a count of its own, which strangers elsewhere cannot spend.
"""

from __future__ import annotations

import functools
from typing import Any

import limits
from flask import Response, after_this_request, request
from werkzeug.exceptions import HTTPException

from tokenservice.auth import emails
from tokenservice.extensions import config
from tokenservice.telemetry import logs
from tokenservice.web.counters import Attempt, Log
from tokenservice.web.limits import address, client, counters, say
from tokenservice.web.problems import Problem
from tokenservice.web.schemas import FORM

BY_ADDRESS = "60 per minute"
FAILURES_BY_NETWORK = "10 per hour"
FAILURES_BY_CORREO = "100 per hour"

parsed = functools.cache(limits.parse)


def limited_login(view: Any) -> Any:
    """Limit the login. Place it right under ``route``, so that a malformed one counts too."""

    @functools.wraps(view)
    def judged(*args: Any, **kwargs: Any) -> Any:
        if config.rate_limit_login != "off":
            judge()
        return view(*args, **kwargs)

    return judged


def judge() -> None:
    """Count this attempt as a failure, and take that back if it turns out to be none.

    Counting only after the answer would let every guess that is under way at once pass.

    :raises Problem: a limit refuses it
    """
    name = counters().pseudonym
    here, network = name(address()), name(client(24, 48))
    by_address = log("login-address", f"login-address:{here}", BY_ADDRESS)
    admit(counters().attempt([by_address]))
    tried = account()
    if tried is None:
        # Counted for its sender alone: one count of all would be anyone's to spend.
        attempt = counters().attempt([log("login", f"login:{here}", config.rate_limit_login)])
    else:
        # Where Redis is a cluster, what stands in braces decides where a key lives.
        whose = f"{{{tried}}}"
        pair = log("login", f"login:{whose}:{here}", config.rate_limit_login)
        share = log("login-network", f"login-network:{whose}:{network}", FAILURES_BY_NETWORK)
        whole = log("login-correo", f"login-correo:{whose}", FAILURES_BY_CORREO)
        attempt = counters().attempt(
            [pair, share._replace(known_quota=whole.quota), whole._replace(known_quota=0)],
            network,
            f"networks:{whose}",
        )
    admit(attempt)
    after_this_request(functools.partial(settle, attempt))


def account() -> str | None:
    """The pseudonym of the account that is tried; None where the body names none."""
    try:
        form = request.mimetype == FORM
        given = request.form["username"] if form else request.get_json()["correo"]
        return counters().pseudonym(emails.canonical(given))
    except (HTTPException, KeyError, TypeError, ValueError, AttributeError):
        return None


def log(name: str, key: str, words: str) -> Log:
    rate = parsed(words)
    return Log(name, key, rate.amount, rate.amount, rate.get_expiry())


def admit(attempt: Attempt) -> None:
    say(attempt.verdicts)
    if attempt.refused:
        logs.note("limit.exceeded")
        raise Problem("rate_limited")


def settle(attempt: Attempt, response: Response) -> Response:
    """Take the attempt back where the password was right, or could not be checked."""
    succeeded = response.status_code == 200
    if succeeded or response.status_code >= 500:
        say(counters().give_back(attempt, remember=succeeded))
    return response

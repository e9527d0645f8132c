"""Limits of a login's attempts, and the order in which they apply (NIST SP 800-63B-4, 3.2.2).

An attempt counts by address, then by address and account, by network and account, and by account.
An attempt that one limit refuses counts in none after it: otherwise refused guesses would shut the
owner out. For the same reason a network has a small share of an account's failures, and a network
from which the owner logged in has a count of its own, which strangers elsewhere cannot spend.

An attempt in flight counts as failed, so that no guess more than a limit is ever checked. One that
a limit would refuse for attempts in flight alone waits until they are settled, as in the queue for
hashes, so that any number of right logins of one account may come at once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from flask import Response, after_this_request, g, request
from werkzeug.exceptions import HTTPException

from tokenservice.auth import emails
from tokenservice.auth.passwords import QUEUE_SECONDS, TooManyWaiting
from tokenservice.extensions import config
from tokenservice.telemetry import audit
from tokenservice.telemetry.calls import call
from tokenservice.web.bodies import FORM
from tokenservice.web.counters import Attempt, Log
from tokenservice.web.limits import admit, client_address, counters, network, parsed, report

BY_ADDRESS = "60 per minute"
FAILURES_BY_NETWORK = "10 per hour"
FAILURES_BY_CORREO = "100 per hour"
#: About the time of a hash.
LOOK_AGAIN_SECONDS = 0.03


def limited_login(view: Any) -> Any:
    """Limit the login. Place it right under ``route``, so that a malformed one counts too."""
    return limited(view, account)


def limited_password(view: Any) -> Any:
    """Limit a view that asks a caller for the password once more: a guess is one of a login."""
    return limited(view, lambda: counters.pseudonym(call().caller.correo))


def limited(view: Any, tried: Callable[[], str | None]) -> Any:
    @functools.wraps(view)
    def judged(*args: Any, **kwargs: Any) -> Any:
        whose = tried()
        audit.note(attempted=whose)
        if config.rate_limit_login != "off":
            judge(whose)
        return view(*args, **kwargs)

    judged.limit = "login"  # type: ignore[attr-defined]
    return judged


def judge(tried: str | None) -> None:
    """Count this attempt as a failure, and take it back if it turns out to be none.

    To count only after the response would let every concurrent guess pass.

    :param tried: the pseudonym of the attempted account; None where none is named
    :raises Problem: a limit refuses it
    :raises TooManyWaiting: attempts in flight were not settled in time
    """
    name = counters.pseudonym
    here, around = name(client_address()), name(network(24, 48))
    by_address = log("login-address", f"login-address:{here}", BY_ADDRESS)
    admit(counters.attempt([by_address]).verdicts)
    if tried is None:
        # It counts for its sender alone: anyone could spend a count of all.
        attempt = patiently([log("login", f"login:{here}", config.rate_limit_login)])
    else:
        # The text in braces decides the cluster slot of a key.
        whose = f"{{{tried}}}"
        pair = log("login", f"login:{whose}:{here}", config.rate_limit_login)
        share = log("login-network", f"login-network:{whose}:{around}", FAILURES_BY_NETWORK)
        whole = log("login-correo", f"login-correo:{whose}", FAILURES_BY_CORREO)
        attempt = patiently(
            [pair, share._replace(known_quota=whole.quota), whole._replace(known_quota=0)],
            around,
            f"networks:{whose}",
        )
    admit(attempt.verdicts)
    after_this_request(functools.partial(settle, attempt))


def patiently(*given: Any) -> Attempt:
    """Count an attempt as soon as those in flight leave room for it, or refuse it.

    The time is kept for the queue of hashes: both waits together have its bound.

    :raises TooManyWaiting: they did not in time
    """
    began = time.monotonic()
    while (attempt := counters.attempt(*given)).may_pass:
        g.waited = time.monotonic() - began
        if g.waited > QUEUE_SECONDS:
            raise TooManyWaiting
        time.sleep(LOOK_AGAIN_SECONDS)
    return attempt


def account() -> str | None:
    """The pseudonym of the attempted account; None where the body names none."""
    try:
        if request.mimetype == FORM:
            given = request.form["username"]
        else:
            body = request.get_json()
            given = body["correo"] if "correo" in body else body["email"]
        spelling = emails.canonical(given, local_domains=config.local_domains)
        return counters.pseudonym(spelling)
    except (HTTPException, KeyError, TypeError, ValueError, AttributeError):
        return None


def log(name: str, key: str, words: str) -> Log:
    rate = parsed(words)
    return Log(name, key, rate.amount, rate.amount, rate.get_expiry())


def settle(attempt: Attempt, response: Response) -> Response:
    """Take the attempt back if the password was right, or could not be checked."""
    succeeded = response.status_code < 300
    if succeeded or response.status_code >= 500:
        report(counters.give_back(attempt, remember=succeeded))
    else:
        counters.fail(attempt)
    return response

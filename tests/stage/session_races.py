"""One round of a race about a session: what was sent at once, and whether the answers agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from tests.stage.people import Person
from tests.stage.racing import Connection, Response, race, request
from tests.stage.sessions import Login

#: What is wrong where one of them had a 503: all wait for one lock, and a stall outlasts the wait.
UNAVAILABLE = "not all of them were served"
#: The most such races that are run again.
SPOILT = 4


class Round(StrEnum):
    """What comes at once beside refreshes of one token."""

    REFRESH = "refresh"
    LOGOUT = "logout"
    REUSE = "reuse"


def rounds_of(
    kind: Round,
    rounds: int,
    log_in: Callable[[], Login],
    connections: Sequence[Connection],
    spoilt: int = SPOILT,
) -> Iterator[tuple[Login, str, str]]:
    """Run so many rounds; yield the session of each, and the result of ``round_of``.

    :param spoilt: the most rounds that are run again where not all were served
    """
    while rounds:
        login = log_in()
        wrong, outcome = round_of(kind, login, connections)
        if wrong == UNAVAILABLE and spoilt:
            spoilt -= 1
            continue
        rounds -= 1
        yield login, wrong, outcome


def round_of(kind: Round, login: Login, connections: Sequence[Connection]) -> tuple[str, str]:
    """Run a round on a fresh session: what was wrong (""), and "open" or "ended".

    The last two connections send what comes beside the refreshes: nothing, a log-out, or a token
    whose successor was presented.
    """
    headed = Person("", "", login.headers)
    spent = login.refresh_token
    if kind is Round.REUSE:
        login = login.refresh().refresh()

    def refreshing(token: str) -> bytes:
        return request("/auth/refresh", headed, {"refresh_token": token})

    others = {
        Round.REFRESH: refreshing(login.refresh_token),
        Round.LOGOUT: request("/auth/logout", headed, {}),
        Round.REUSE: refreshing(spent),
    }[kind]
    many = len(connections) - 2
    found = race(connections, [*[refreshing(login.refresh_token)] * many, *[others] * 2])
    if any(one.status == 503 for one in found):
        return UNAVAILABLE, ""
    refreshed, beside = found[:many], found[many:]
    if kind is Round.REFRESH:
        refreshed, beside = found, []
    told = {one.body["refresh_token"] for one in refreshed if one.status == 200}
    if len(told) > 1:
        return "two successors", ""
    if wrong := [one.kind for one in refreshed if not is_foreseen(one, kind)]:
        return f"refresh: {wrong}", ""
    # A log-out may find that the other one has ended its session.
    statuses = {Round.REFRESH: set[int](), Round.LOGOUT: {204, 401}, Round.REUSE: {401}}[kind]
    if not {one.status for one in beside} <= statuses:
        return f"beside: {[one.kind for one in beside]}", ""
    if kind is Round.REFRESH:
        [successor] = told
        last = login.present(successor)
        return ("" if last.status_code == 200 else "the successor is refused"), "open"
    for token in (*told, login.refresh_token, spent):
        if login.present(token).status_code != 401:
            return "a token of an ended session works", ""
    return "", "ended"


def is_foreseen(response: Response, kind: Round) -> bool:
    if response.status == 200:
        return True
    return kind is not Round.REFRESH and response.kind == (401, "session_ended")

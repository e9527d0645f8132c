"""A model of a cluster whose slot moves, small enough to search every history of it.

One token, on A, and its slot. B is another master, and R the replica of B. :func:`search` takes
every step in every order, breadth first, until a second presenter gets "first success".

- The data of a slot move as one: records without their history are not modelled.
- There is no time, and no server starts again: the whole history lies within the token's life.
- A slot is opened, its keys are carried, and it is assigned. By the book the new owner takes an
  epoch above all others, unless it has that already. By force it takes none.
- While it is open, it may be abandoned: the keys are carried back.
- R copies the data of B until it is cut off. When B crashes, R is promoted with its copy.
- Bytes of an earlier moment may be put back into the process that serves the slot.
- Opening, cutting, crashing and putting back come out of a budget.

``python -m tests.onetime.design_slots`` prints the verdicts.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

A, B, R = range(3)
NAMES = "ABR"


class Design(Enum):
    """The condition of the reply "first success", besides an active record."""

    TERM = "run_id and mastership"  # this process issued it: built first
    ASKED = "and the epoch, ASK followed"  # also where the slot is only on its way
    EPOCH = "and the epoch"  # it had the same epoch then, and owns the slot
    COUNT = "and the epoch and the count"  # and has not gone back: the built design


class Fault(Enum):
    MOVE = "move"  # by the book
    ABANDON = "abandon"  # a move that is undone while the slot is open
    FORCE = "force"  # the slot is assigned without being opened; the target takes no epoch
    COPY = "copy"  # a copy stays behind: MIGRATE COPY, or a MIGRATE whose reply was lost
    STALE = "stale replica"  # R falls behind, and is promoted
    PUT_BACK = "put back"  # RESTORE, SWAPDB, DEBUG RELOAD, an import


BY_THE_BOOK = frozenset({Fault.MOVE, Fault.ABANDON, Fault.STALE})
SCENARIOS = {
    "moves by the book": BY_THE_BOOK - {Fault.ABANDON},
    "and abandoned ones": BY_THE_BOOK,
    "and copies left behind": BY_THE_BOOK | {Fault.COPY},
    "and forced ones": BY_THE_BOOK | {Fault.FORCE},
    "and bytes put back": frozenset(Fault),
}


class Data(NamedTuple):
    """The data of the slot on one server: the record, and the count of its history."""

    issuer: str
    consumer: str = ""
    count: int = 0


class Server(NamedTuple):
    epoch: int
    data: Data | None = None
    up: bool = True


class State(NamedTuple):
    servers: tuple[Server, ...]
    budget: int
    owner: int = A
    target: int | None = None  # the destination of an open slot
    stale: bool = False  # R gets nothing more
    kept: Data | None = None  # bytes of an earlier moment
    seen: int = 0  # the highest count that A has returned for its term
    successes: str = ""

    def put(self, place: int, **changes: Any) -> State:
        changed = self.servers[place]._replace(**changes)
        return self._replace(servers=(*self.servers[:place], changed, *self.servers[place + 1 :]))

    def carried(self, source: int, target: int, *, copied: bool = False) -> State:
        after = self.put(target, data=self.servers[source].data)
        return after if copied else after.put(source, data=None)

    def assigned(self, place: int, *, bumped: bool) -> State:
        """Make ``place`` the owner, as clusterBumpConfigEpochWithoutConsensus would."""
        highest = max(server.epoch for server in self.servers)
        bump = bumped and self.servers[place].epoch != highest
        after = self.put(place, epoch=highest + 1) if bump else self
        return after._replace(owner=place, target=None)


class Step(NamedTuple):
    text: str
    state: State
    reply: str = ""


def term(design: Design, state: State, place: int) -> str:
    name = NAMES[place]
    return name if design is Design.TERM else f"{name}/{state.servers[place].epoch}"


def issue(design: Design, budget: int = 7) -> State:
    start = State((Server(1), Server(2), Server(2)), budget)
    return start.put(A, data=Data(term(design, start, A)))


def consume(design: Design, state: State, client: str, place: int) -> tuple[str, State]:
    """The script: the reply of a server, and the state after it."""
    data, mine = state.servers[place].data, term(design, state, place)
    if data is None:
        return "unknown", state
    if design is Design.COUNT and place == A and state.seen > data.count:
        return "lost", state.put(place, data=data._replace(issuer="", count=state.seen + 1))
    if data.consumer:
        return "already used", state
    if data.issuer != mine:
        return "lost", state
    data = data._replace(consumer=client, count=data.count + 1)
    after = state.put(place, data=data)
    return "first success", after._replace(
        successes=state.successes + client, seen=max(state.seen, data.count)
    )


def steps(design: Design, faults: frozenset[Fault], state: State) -> Iterator[Step]:
    owner, servers = state.owner, state.servers
    masters = [
        place for place in (A, B, R) if servers[place].up and (place != R or not servers[B].up)
    ]
    spent = state._replace(budget=state.budget - 1)
    serving = [owner]
    if state.target is not None and design in (Design.TERM, Design.ASKED):
        serving.append(state.target)  # An ASK leads there.
    for place in serving:
        if servers[place].up:
            for client in "BA" if state.successes else "A":
                reply, after = consume(design, state, client, place)
                yield Step(f"{client} presents it at {NAMES[place]}: {reply}", after, reply)

    if state.target is None and state.budget and servers[owner].up:
        for place in masters:
            if place != owner:
                text = f"{NAMES[owner]} to {NAMES[place]}"
                if Fault.MOVE in faults:
                    opened = spent._replace(target=place)
                    yield Step(f"the slot is opened from {text}", opened.carried(owner, place))
                if Fault.COPY in faults:
                    copied = spent.carried(owner, place, copied=True)
                    moved = copied.assigned(place, bumped=True)
                    yield Step(f"a copy of the slot is made from {text}, the owner now", moved)
                if Fault.FORCE in faults:
                    moved = spent.carried(owner, place).assigned(place, bumped=False)
                    yield Step(f"the slot is forced from {text}", moved)
    elif state.target is not None:
        text = f"{NAMES[owner]} to {NAMES[state.target]}"
        moved = state.assigned(state.target, bumped=True)
        yield Step(f"the move from {text} is closed", moved)
        if Fault.ABANDON in faults:
            undone = state.carried(state.target, owner)._replace(target=None)
            yield Step(f"the move from {text} is abandoned", undone)

    if Fault.STALE in faults and servers[B].up:
        if not state.stale and servers[R].data != servers[B].data:
            yield Step("R copies B", state.put(R, data=servers[B].data))
        if state.budget and not state.stale:
            yield Step("R is cut off", spent._replace(stale=True))
        if state.budget and state.target is None:
            after = spent.put(B, up=False, data=None)
            highest = max(server.epoch for server in servers)
            after = after.put(R, epoch=highest + 1)
            after = after._replace(owner=R if owner == B else owner)
            yield Step("B crashes, and R is promoted", after)
    if Fault.PUT_BACK in faults and state.target is None:
        if state.kept is None and servers[owner].data:
            yield Step("the data are saved", state._replace(kept=servers[owner].data))
        if state.budget and state.kept and servers[owner].up:
            yield Step(
                f"the saved data are put back at {NAMES[owner]}", spent.put(owner, data=state.kept)
            )


@dataclass
class Verdict:
    history: list[str]  # the shortest violation; empty where there is none
    states: int


def search(design: Design, faults: frozenset[Fault], budget: int = 7) -> Verdict:
    start = issue(design, budget)
    origin: dict[State, tuple[State, str] | None] = {start: None}
    frontier = deque([start])
    while frontier:
        state = frontier.popleft()
        for step in steps(design, faults, state):
            if len(step.state.successes) > 1:
                history = [step.text]
                while found := origin[state]:
                    state, text = found
                    history.insert(0, text)
                return Verdict(history, len(origin))
            if step.state not in origin:
                origin[step.state] = state, step.text
                frontier.append(step.state)
    return Verdict([], len(origin))


if __name__ == "__main__":
    for design in Design:
        for name, faults in SCENARIOS.items():
            found = search(design, faults)
            outcome = "violated" if found.history else "holds"
            lines = [f"{design.value}, {name}: {outcome}, {found.states} states", *found.history]
            sys.stdout.write("\n  ".join(lines) + "\n\n")

"""A model of Redis under failure, small enough to search every history of it.

One token, two clients, and two or three servers that crash, lag, pause and are cut off from each
other. :func:`search` takes every step in every order, breadth first, until a history replies
"first success" twice, or repeats it to another client. It returns the shortest such history.

- There is no time: the whole history lies within the token's life.
- In the beginning the token is written on M, the master, and on its way to the replicas.
- A client is a caller with one idempotency key. It reaches every server that runs, and calls as
  often as it likes; any server that believes it is master replies.
- Replication is asynchronous and in order. A replica that was away takes a full copy.
- The sentinels promote any replica once the master is down, paused or cut off. A master that
  returns goes on as one until it is demoted.
- Crashes, cuts, pauses and promotions come out of a budget. Recovery, replication and snapshots
  are free.
- Reserve and commit are not modelled: a commit passes the same fence as a validate.

``python -m tests.onetime.design`` prints the verdicts; DESIGN_DEPTH=1 allows one fault more.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

NAMES = "MRS"


class Design(Enum):
    """The condition of the reply "first success"."""

    DELETE = "GETDEL"  # the record was there, and is now deleted
    DELETE_WAIT = "GETDEL, then WAIT 1"  # and one replica has acknowledged that
    FENCE = "run_id"  # the record is active, and this very process issued it: not enough
    TERM_FENCE = "run_id and mastership"  # and has not been a replica since: the built design
    NO_FENCE = "consumed mark"  # the record is active: the fence taken away, all else kept


class Fault(Enum):
    CRASH = "crash"
    RESTART = "restart"  # a crashed process starts again, empty or from its last snapshot
    CUT = "cut"  # a server is cut off from the others and the sentinels, but not from clients
    PAUSE = "pause"  # a process stands still, and goes on later as if nothing had happened
    PROMOTE = "promote"  # a replica becomes master
    # The process that issued the token is demoted, takes a full copy of its successor's data,
    # which may lack the consume, and is promoted again, all within the token's life. Sentinel's
    # failover-timeout does not exclude it: that delays the next try of a failover which did not
    # succeed. Its down-after-milliseconds does for tokens that live shorter (10 s; it is 30 s by
    # default): so long is the successor silent before it is replaced. A second failover by hand
    # waits for nothing.
    REPROMOTE = "repromote"


SCENARIOS = {
    "crash, stale snapshot": frozenset({Fault.CRASH, Fault.RESTART}),
    "failover": frozenset({Fault.CRASH, Fault.PROMOTE}),
    "split brain": frozenset({Fault.CUT, Fault.PROMOTE}),
    "zombie": frozenset({Fault.PAUSE, Fault.PROMOTE}),
    "all of these": frozenset(Fault) - {Fault.REPROMOTE},
    "all, and repromotion": frozenset(Fault),
}


class Record(NamedTuple):
    """A token as one server has it. Where there is none, or it was deleted: None."""

    issuer: str
    consumer: str = ""

    def __str__(self) -> str:
        return f"token consumed by {self.consumer}" if self.consumer else "token active"


class Write(NamedTuple):
    """A message of a master to its replicas: the record as it is now."""

    record: Record | None
    waiting: str = ""  # the client whose WAIT ends when this is acknowledged


class Server(NamedTuple):
    run: str  # the run_id: another one on each server, and after each start
    master: bool = False  # what it believes
    up: bool = True
    paused: bool = False
    cut: bool = False
    demoted: bool = False  # this process was a master and became a replica
    term: int = 0  # how often this process was promoted
    record: Record | None = None
    snapshot: Record | None = None
    stream: tuple[Write, ...] | None = None  # writes still to apply; None: no master

    def reachable(self) -> bool:
        return self.up and not self.paused and not self.cut

    def fence(self, design: Design) -> str:
        term = f"{self.run}/{self.term}"
        return {Design.FENCE: self.run, Design.TERM_FENCE: term}.get(design, "")


class State(NamedTuple):
    servers: tuple[Server, ...]
    budget: int  # how many faults may still happen
    primary: int = 0  # the master of the sentinels and of all replicas
    successes: str = ""  # the clients with a "first success", in order

    def put(self, place: int, **changes: Any) -> State:
        changed = self.servers[place]._replace(**changes)
        return self._replace(servers=(*self.servers[:place], changed, *self.servers[place + 1 :]))

    def fault(self, place: int, **changes: Any) -> State:
        return self.put(place, **changes)._replace(budget=self.budget - 1)

    def sent(self, master: int, write: Write) -> State:
        """Append to the streams of the replicas; a deposed master has none."""
        if master != self.primary:
            return self
        return self._streams(lambda stream: (*stream, write))

    def acknowledged(self) -> State:
        """End the WAIT: acknowledgements from other replicas change nothing."""
        return self._streams(lambda stream: tuple(Write(write.record) for write in stream))

    def broken(self) -> State:
        """Break the connections of all replicas to the master."""
        return self._streams(lambda stream: None)

    def _streams(self, change: Any) -> State:
        return self._replace(
            servers=tuple(
                server if server.stream is None else server._replace(stream=change(server.stream))
                for server in self.servers
            )
        )


class Step(NamedTuple):
    kind: str
    text: str
    state: State
    reply: str = ""


def issue(design: Design, servers: int, budget: int) -> State:
    record = Record(Server("M1").fence(design))
    replicas = (Server(f"{name}1", stream=(Write(record),)) for name in NAMES[1:servers])
    return State((Server("M1", master=True, record=record), *replicas), budget)


def consume(design: Design, state: State, client: str, place: int) -> tuple[str, State]:
    """The script: the reply of a server, and the state after it."""
    server = state.servers[place]
    record = server.record
    if record is None:
        return "unknown", state
    if design is Design.DELETE_WAIT:
        return "waits", state.put(place, record=None).sent(place, Write(None, client))
    if design is Design.DELETE:
        after = state.put(place, record=None).sent(place, Write(None))
    elif record.consumer:  # believed, whichever process wrote it
        return "repeated" if record.consumer == client else "already used", state
    elif record.issuer != server.fence(design):
        return "lost", state
    else:
        record = record._replace(consumer=client)
        after = state.put(place, record=record).sent(place, Write(record))
    return "first success", after._replace(successes=state.successes + client)


def steps(design: Design, faults: frozenset[Fault], state: State) -> Iterator[Step]:
    """All possible next steps."""
    primary, leader = state.servers[state.primary], NAMES[state.primary]
    for place, server in enumerate(state.servers):
        name, reachable, put, fault = NAMES[place], server.reachable(), state.put, state.fault
        linked = place != state.primary and reachable and primary.reachable()
        if linked and server.stream:
            (write, *rest), after, reply = server.stream, state, ""
            text = f"{name} applies: {write.record or 'no token'}"
            if write.waiting:
                after = state.acknowledged()._replace(successes=state.successes + write.waiting)
                (_, *rest), reply = after.servers[place].stream or (), "first success"
                text += f"; {write.waiting} gets: {reply}"
            after = after.put(place, record=write.record, stream=tuple(rest))
            yield Step("apply", text, after, reply)
        if linked and server.stream is None:
            after = put(place, master=False, record=primary.record, stream=())
            kind = "demote" if server.master else "resync"
            if server.master:
                after = after.put(place, demoted=True)
            text = f"{name} becomes a replica of {leader}, and copies: "
            yield Step(kind, text + str(primary.record or "no token"), after)

        if Fault.RESTART in faults and not server.up:
            run = name + str(int(server.run[1:]) + 1)
            for record in dict.fromkeys((server.snapshot, None)):
                after = put(place, up=True, run=run, demoted=False, term=0, record=record)
                yield Step("restart", f"{name} restarts with: {record or 'no token'}", after)
        elif Fault.RESTART in faults and server.snapshot != server.record:
            after = put(place, snapshot=server.record)
            yield Step("snapshot", f"{name} saves a snapshot: {server.record or 'no token'}", after)
        if server.cut:
            yield Step("heal", f"{name} is no longer cut off", put(place, cut=False))
        if server.paused:
            yield Step("resume", f"{name} goes on", put(place, paused=False))

        if state.budget and Fault.CRASH in faults and server.up:
            after = fault(place, up=False, paused=False, record=None, stream=None)
            after = after.broken() if place == state.primary else after
            yield Step("crash", f"{name} crashes", after)
        if state.budget and Fault.CUT in faults and not server.cut:
            yield Step("cut", f"{name} is cut off", fault(place, cut=True))
        if state.budget and Fault.PAUSE in faults and server.up and not server.paused:
            yield Step("pause", f"{name} is paused", fault(place, paused=True))
        eligible = reachable and not server.master and not primary.reachable()
        again = Fault.REPROMOTE in faults or not server.demoted
        if state.budget and Fault.PROMOTE in faults and eligible and again:
            after = state.broken().fault(place, master=True, stream=None, term=server.term + 1)
            kind = "repromote" if server.demoted else "promote"
            yield Step(kind, f"{name} is promoted", after._replace(primary=place))
    for place, server in enumerate(state.servers):
        if server.up and not server.paused and server.master:
            # The first winner is called A. Then B comes first, so that a violation shows B.
            for client in "BA" if state.successes else "A":
                reply, after = consume(design, state, client, place)
                text = f"{client} consumes at {NAMES[place]}: {reply}"
                # Only the winner may get it again.
                if reply == "repeated" and client not in state.successes:
                    reply = "stolen"
                yield Step("consume", text, after, reply)


@dataclass
class Verdict:
    history: list[str]  # the shortest violation; empty where there is none
    states: dict[State, tuple[State, str] | None]  # all reachable ones, and the origin of each
    taken: set[str]  # the kinds of steps, and the replies, that occur


def search(design: Design, faults: frozenset[Fault], start: State) -> Verdict:
    verdict = Verdict([], {start: None}, set())
    frontier = deque([start])
    while frontier:
        state = frontier.popleft()
        for step in steps(design, faults, state):
            verdict.taken |= {step.kind, step.reply}
            if len(step.state.successes) > 1 or step.reply == "stolen":
                verdict.history = [step.text]
                while origin := verdict.states[state]:
                    state, text = origin
                    verdict.history.insert(0, text)
                return verdict
            if step.state not in verdict.states:
                verdict.states[step.state] = state, step.text
                frontier.append(step.state)
    return verdict


DEPTH = int(os.environ.get("DESIGN_DEPTH", "0"))
BOUNDS = {2: 4 + DEPTH, 3: 2 + DEPTH}  # faults by number of servers

if __name__ == "__main__":
    for design, (servers, budget) in itertools.product(Design, BOUNDS.items()):
        for name, faults in SCENARIOS.items():
            if Fault.REPROMOTE in faults and budget < 4:
                continue  # It takes two failovers, and a reason for each.
            found = search(design, faults, issue(design, servers, budget))
            outcome = "violated" if found.history else "holds"
            setting = f"{design.value}, {servers} servers, {budget} faults, {name}"
            lines = [f"{setting}: {outcome}, {len(found.states)} states", *found.history]
            sys.stdout.write("\n  ".join(lines) + "\n\n")

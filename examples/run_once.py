"""A job that must run once, although its queue delivers it at least once.

A worker holds the token of the run while it works: the end consumes it, and a failure releases it.
"""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from account import check, enrol, refusal, run

from token_service_client import AlreadyUsed, LeaseEnded, Refused, Reserved, Tokens, Use

PURPOSE = "job.run"
LIFE = 3600  # the longest wait in the queue
LEASE_SECONDS = 60  # the most
Job = dict[str, Any]
Work = Callable[[Job], None]


class Worker:
    """A worker of a queue, as it runs in several processes that share an account."""

    def __init__(self, tokens: Tokens, scheduler_id: str) -> None:
        self.tokens = tokens
        # Anyone with an account can create a token for a job; only the scheduler's count.
        self.terms = {"purpose": PURPOSE, "issued_by": scheduler_id}
        self.begun: list[str] = []
        self.database: dict[str, str] = {}

    def take(self, token: str, work: Work, lease: int = LEASE_SECONDS) -> str:
        """Take the token of a message, and tell the queue how that ended."""
        try:
            with self.tokens.hold(token, lease=lease, **self.terms) as held:
                work(held.data)  # The service kept these data. A message can be changed.
        except AlreadyUsed:
            return "done before"
        except (Reserved, LeaseEnded):  # Another worker has the job, or may have it by now.
            return "deliver later"
        except Refused:
            return "refused"  # The scheduler must hear of it: lost or expired is among these.
        return "done"

    def work(self, job: Job) -> None:
        self.begun.append(job["run"])
        # In SQL: INSERT … ON CONFLICT DO NOTHING, in the same transaction as the work.
        self.database.setdefault(job["run"], job["text"])

    def claim(self, token: str, job: str, name: str) -> Use:
        """Consume the token before the work, for a job that must never run twice."""
        # With the name of the worker in it: a key of the job alone would let in all of them.
        return self.tokens.consume(token, idempotency_key=f"{job}:{name}", **self.terms)


def main() -> None:
    scheduler, account = enrol("scheduler"), enrol("worker")
    worker = Worker(account.tokens, scheduler.id)

    def plan(job: str) -> str:
        terms = {"audience": account.id, "data": {"run": job, "text": "Your invoice"}}
        terms |= {"expires_in": LIFE, "idempotency_key": job}
        return scheduler.tokens.create(purpose=PURPOSE, **terms).token

    first = plan("invoices-1")
    check(plan("invoices-1") == first, "a second scheduler got the same token for the run")

    def fails(job: Job) -> None:
        meanwhile = worker.take(first, worker.work)
        check(meanwhile == "deliver later", "delivered to two workers: token_reserved", meanwhile)
        raise OSError

    with suppress(OSError):
        worker.take(first, fails)
    with ThreadPoolExecutor(5) as pool:
        ends = Counter(pool.map(worker.take, [first] * 5, [worker.work] * 5))
    ran = (ends["done"], worker.begun) == (1, ["invoices-1"])
    check(ran, "the job failed, and of five workers at once one ran it again", ends)
    end = worker.take(first, worker.work)
    check(end == "done before", "delivered again: token_already_used", end)

    second = plan("invoices-2")

    def stalls(job: Job) -> None:
        worker.work(job)
        # To the others, a worker that is killed here looks the same.
        while (end := worker.take(second, worker.work)) == "deliver later":
            time.sleep(0.1)
        check(end == "done", "stalled before the commit: after the lease another ran it too", end)

    end = worker.take(second, stalls, lease=1)
    check(end == "deliver later", "the stalled worker got lease_ended", end)
    check(worker.begun.count("invoices-2") == 2, "the job ran twice")
    check(len(worker.database) == 2, "the database counted each run once")

    third = plan("invoices-3")
    use = worker.claim(third, "invoices-3", "worker-1")
    check(not use.replayed, "worker-1 consumed the token before the work")
    use = worker.claim(third, "invoices-3", "worker-1")
    check(use.replayed, "worker-1 started again: it knows that it had begun")
    other = refusal(lambda: worker.claim(third, "invoices-3", "worker-2"))
    check(isinstance(other, AlreadyUsed), "worker-2: token_already_used", other)

    job = {"run": "invoices-4", "text": "Pay to me"}
    forged = account.tokens.create(purpose=PURPOSE, audience=account.id, data=job)
    end = worker.take(forged.token, worker.work)
    check(
        (end, len(worker.database)) == ("refused", 2),
        "a token that is not the scheduler's: refused",
    )


if __name__ == "__main__":
    run(main)

"""Approve one payment: the approver's token is valid for that payment only."""

import secrets
from typing import Any

import rfc8785
from account import check, enrol, refusal, run

from token_service_client import AlreadyUsed, Mismatch, Tokens, Use, bind_of

PURPOSE = "payment.approve"


class Executor:
    """The program that pays. It hashes the action that it is about to take, never trusts a hash."""

    def __init__(self, tokens: Tokens, approvers: list[str]) -> None:
        self.tokens = tokens
        self.approvers = approvers
        self.paid: dict[str, int] = {}

    def pay(self, action: dict[str, Any], token: str, attempt: str) -> Use:
        use = self.tokens.consume(
            token,
            purpose=PURPOSE,
            # Anyone with an account can approve anything; only approvals of these accounts count.
            issued_by=self.approvers,
            bind=bind_of(action),
            idempotency_key=attempt,
        )
        # A repeated attempt succeeds again, and must not pay again.
        self.paid.setdefault(action["payment"], action["amount_cents"])
        return use


def main() -> None:
    approver, bank = enrol("approver"), enrol("bank")
    executor = Executor(bank.tokens, approvers=[approver.id])
    # An amount is an integer of cents, because languages write fractions differently.
    action = {
        "payment": secrets.token_hex(4),
        "payee": "Muñoz e Hijos",
        "amount_cents": 25000,
        "currency": "EUR",
    }
    print("   ", rfc8785.dumps(action).decode())
    print("    SHA-256", bind_of(action))

    # The approver hashes the action that the approver's own screen shows.
    made = approver.tokens.create(
        purpose=PURPOSE, audience=bank.id, bind=bind_of(action), expires_in=120
    )
    print("ok  the approver approved 250.00 EUR")

    changed = {**action, "amount_cents": 2500000}
    refused = refusal(lambda: executor.pay(changed, made.token, "attempt-1"))
    is_bind = isinstance(refused, Mismatch) and refused.field == "bind"
    check(is_bind, "another amount: token_mismatch, field bind", refused)
    state = approver.tokens.receipt(made.id).state
    check((state, executor.paid) == ("active", {}), "nothing was paid, and the token still is good")

    first = executor.pay(action, made.token, "attempt-2")
    check(not first.replayed, "the payment was made", first)
    # If that response had been lost, the same call would replay it.
    again = executor.pay(action, made.token, "attempt-2")
    check(again.replayed, "same key: the same answer again", again)
    other = refusal(lambda: executor.pay(action, made.token, "attempt-3"))
    check(isinstance(other, AlreadyUsed), "another key: token_already_used", other)
    check(executor.paid == {action["payment"]: 25000}, "it was paid once")


if __name__ == "__main__":
    run(main)

"""Approve one payment: the approver's token is valid for that payment only."""

import hashlib
import json
import secrets
from typing import Any

from client import Client, Response, check

PURPOSE = "payment.approve"


def canonical(action: dict[str, Any]) -> bytes:
    """Encode ``action`` as JSON with sorted names, no spaces, in UTF-8: equal on both sides.

    For ASCII names, texts and integers this is RFC 8785. An amount is an integer of cents,
    because languages write fractions differently.
    """
    text = json.dumps(action, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def bind_of(action: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(action)).hexdigest()


class Executor:
    """The program that pays. It hashes the action that it is about to take, never trusts a hash."""

    def __init__(self, account: Client, approvers: list[str]) -> None:
        self.account = account
        self.approvers = approvers
        self.paid: dict[str, int] = {}

    def pay(self, action: dict[str, Any], token: str, attempt: str) -> Response:
        # Anyone with an account can approve anything; only approvals of these accounts count.
        terms = {"purpose": PURPOSE, "issued_by": self.approvers, "bind": bind_of(action)}
        response = self.account.post("/token/consume", {"token": token, **terms}, key=attempt)
        if response.status == 200:
            # A repeated attempt gets 200 again, and must not pay again.
            self.paid.setdefault(action["payment"], action["amount_cents"])
        return response


def main() -> None:
    approver, bank = Client("approver"), Client("bank")
    executor = Executor(bank, approvers=[approver.id])
    action = {
        "payment": secrets.token_hex(4),
        "payee": "Muñoz e Hijos",
        "amount_cents": 25000,
        "currency": "EUR",
    }
    print("   ", canonical(action).decode())
    print("    SHA-256", bind_of(action))

    # The approver hashes the action that the approver's own screen shows.
    terms = {"purpose": PURPOSE, "audience": [bank.id], "bind": bind_of(action)}
    made = approver.post("/token/create", {**terms, "expires_in": 120})
    check(made.status == 201, "the approver approved 250.00 EUR", made)
    token, receipt = made.body["token"], f"/token/{made.body['id']}"

    changed = executor.pay({**action, "amount_cents": 2500000}, token, "attempt-1")
    mismatch = (changed.body.get("code"), changed.body.get("field")) == ("token_mismatch", "bind")
    check(mismatch, "another amount: token_mismatch, field bind", changed)
    state = approver.get(receipt).body["state"]
    check((state, executor.paid) == ("active", {}), "nothing was paid, and the token still is good")

    first = executor.pay(action, token, "attempt-2")
    check(first.status == 200 and not first.body["replayed"], "the payment was made", first)
    # If that response had been lost, the same call would replay it.
    again = executor.pay(action, token, "attempt-2")
    check(again.status == 200 and again.body["replayed"], "same key: the same answer again", again)
    other = executor.pay(action, token, "attempt-3")
    refused = other.status == 409 and other.body["code"] == "token_already_used"
    check(refused, "another key: token_already_used", other)
    check(executor.paid == {action["payment"]: 25000}, "it was paid once")


if __name__ == "__main__":
    main()

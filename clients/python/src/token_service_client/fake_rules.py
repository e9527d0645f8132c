"""What the service of ``FakeTokens`` accepts, and how it refuses."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx

LONGEST_LIFE = 86400  # seconds, as the service has it by default
#: The status of each problem that the service can play.
STATUS = {
    code: status
    for status, codes in {
        401: "key_invalid",
        403: "token_not_for_caller token_mismatch insufficient_scope purpose_not_allowed",
        404: "token_unknown",
        409: "token_already_used token_reserved lease_ended",
        410: "token_expired token_revoked token_lost",
        422: "token_malformed validation_failed idempotency_mismatch",
        429: "rate_limited too_many_active",
        503: "store_unavailable database_unavailable busy not_ready",
    }.items()
    for code in codes.split()
}
#: The values that the service takes for a field.
RULES: dict[str, Callable[[Any], bool]] = {
    "purpose": lambda text: bool(re.fullmatch("[a-z0-9._:-]{1,64}", text)),
    "bind": lambda text: bool(re.fullmatch("[0-9A-Fa-f]{64}", text)),
    "subject": lambda text: 1 <= len(text) <= 255,
    "expires_in": lambda seconds: 1 <= seconds <= LONGEST_LIFE,
    "lease_seconds": lambda seconds: 1 <= seconds <= 60,
    "count": lambda count: 1 <= count <= 100,
    "audience": lambda accounts: 1 <= len(accounts) <= 16 and all(map(is_account, accounts)),
    "issued_by": lambda accounts: 1 <= len(accounts) <= 16 and all(map(is_account, accounts)),
    "data": lambda data: len(json.dumps(data, ensure_ascii=False).encode()) <= 4096,
}


class FakeProblem(Exception):
    """A refusal, by its code."""

    def __init__(self, code: str, retry_after: float = 0, **members: Any) -> None:
        super().__init__(code)
        self.code, self.retry_after, self.members = code, retry_after, members

    def response(self) -> httpx.Response:
        status, title = STATUS[self.code], self.code.replace("_", " ")
        headers = {"Retry-After": str(math.ceil(self.retry_after))} if self.retry_after else {}
        told = {"status": status, "code": self.code, "title": title, **self.members}
        return httpx.Response(status, json=told, headers=headers)


def judge(given: Mapping[str, Any]) -> None:
    """:raises FakeProblem: the service does not take a field"""
    wrong = [name for name, value in given.items() if name in RULES and not RULES[name](value)]
    refuse(wrong)


def judge_new(terms: Mapping[str, Any]) -> None:
    """:raises FakeProblem: the service creates tokens of this purpose for itself alone"""
    refuse(["purpose"] if terms["purpose"].startswith("auth.") else [])


def refuse(wrong: list[str]) -> None:
    if wrong:
        raise FakeProblem("validation_failed", errors={name: ["Not valid."] for name in wrong})


def is_account(text: str) -> bool:
    try:
        return "@" in text or bool(uuid.UUID(text))
    except ValueError:
        return False

"""A program with the installed client: a create, a consume, and a refused consume."""

from __future__ import annotations

import json
import sys

from token_service_client import AlreadyUsed, Created, Tokens, Use


def run(url: str, key: str, issuer: str) -> dict[str, object]:
    with Tokens(url, key=key) as tokens:
        made: Created = tokens.create(purpose="ws.connect", data={"room": 7}, expires_in=60)
        use: Use = tokens.consume(made.token, purpose="ws.connect", issued_by=issuer)
        with tokens.hold(
            tokens.create(purpose="file.download").token,
            purpose="file.download",
            issued_by=[issuer],
            lease=30,
        ) as held:
            assert held.lease_expires_at > held.created_at
        try:
            tokens.consume(made.token, purpose="ws.connect", issued_by=issuer)
        except AlreadyUsed as refused:
            since = refused.consumed_at.isoformat()
            return {"data": use.data, "code": refused.code, "since": since}
    raise AssertionError("a second consume succeeded")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(**json.load(sys.stdin))))

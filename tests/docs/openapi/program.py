"""A create, a consume and a refused consume by a client that openapi-python-client generates."""

from __future__ import annotations

import json
import sys

from generated import AuthenticatedClient
from generated.api.token import consume_token, create_token
from generated.models.create_token_request import CreateTokenRequest
from generated.models.create_token_request_data import CreateTokenRequestData
from generated.models.create_token_response import CreateTokenResponse
from generated.models.problem import Problem
from generated.models.problem_code import ProblemCode
from generated.models.validate_request import ValidateRequest
from generated.models.validate_response import ValidateResponse
from generated.types import Unset


def run(url: str, jwt: str, issuer: str) -> dict[str, object]:
    with AuthenticatedClient(base_url=url, token=jwt) as client:
        data = CreateTokenRequestData.from_dict({"room": 7})
        terms = CreateTokenRequest(purpose="ws.connect", data=data, expires_in=60)
        created = create_token.sync(client=client, body=terms)
        assert isinstance(created, CreateTokenResponse)
        body = ValidateRequest(token=created.token, purpose="ws.connect", issued_by=[issuer])
        consumed = consume_token.sync(client=client, body=body)
        assert isinstance(consumed, ValidateResponse)
        assert consumed.data is not None
        refused = consume_token.sync(client=client, body=body)
        assert isinstance(refused, Problem)
        assert refused.code is ProblemCode.TOKEN_ALREADY_USED
        assert not isinstance(refused.consumed_at, Unset)
        since = refused.consumed_at.isoformat()
        return {"room": consumed.data["room"], "code": refused.code.value, "since": since}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(**json.load(sys.stdin))))

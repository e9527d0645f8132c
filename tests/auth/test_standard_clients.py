"""Clients of OAuth that are not ours, with a service key at a real service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from authlib.integrations.httpx_client import OAuth2Client, OAuthError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from flask import Flask

from tests.stage import node
from tests.stage.keys import bearer, new_key
from tests.stage.people import enrol
from tests.stage.problems import problem_in
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.auth.rights import KeyText

CLIENTS = Path(__file__).parent / "clients"
METADATA = "/.well-known/oauth-authorization-server"
SCOPES = ["token:create", "token:consume"]
METHODS = ["client_secret_basic", "client_secret_post"]


@pytest.fixture(scope="module")
def public(serve: Callable[..., Service]) -> Iterator[Service]:
    """A service with metadata: its ``public_url`` is where it listens."""
    service = serve(web_concurrency=2)
    (service.log.parent / ".env").write_text(f"public_url={service.url}\n")
    with service:
        yield service


@pytest.fixture
def made(public: Service) -> dict[str, Any]:
    with httpx.Client(base_url=public.url, timeout=30) as http:
        return new_key(http.post, enrol(http.post), scopes=SCOPES)


def authlib(public: Service, made: dict[str, Any], method: str = METHODS[0]) -> OAuth2Client:
    """A client that knows what the metadata say."""
    return OAuth2Client(
        made["id"],
        made["key"],
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        base_url=public.url,
        timeout=30,
        **httpx.get(public.url + METADATA, timeout=30).json(),
    )


@pytest.mark.parametrize("method", METHODS)
def test_authlib_calls_with_the_scope_that_it_asked_for(
    public: Service, made: dict[str, Any], method: str
) -> None:
    with authlib(public, made, method) as client:
        granted = client.fetch_token(grant_type="client_credentials", scope=SCOPES[0])
        assert (granted["token_type"], granted["scope"]) == ("Bearer", SCOPES[0])
        created = client.post("/token/create")
        assert created.status_code == 201, created.text
        consumption = client.post("/token/consume", json={"token": created.json()["token"]})
        problem_in(consumption, 403, "insufficient_scope")
        problem_in(client.get("/token"), 403, "insufficient_scope")
        problem_in(client.get("/auth/me"), 403, "insufficient_scope")


@pytest.mark.parametrize("method", METHODS)
def test_authlib_reads_the_refusals(public: Service, made: dict[str, Any], method: str) -> None:
    with authlib(public, made, method) as client:
        with pytest.raises(OAuthError) as refused:
            client.fetch_token(grant_type="client_credentials", scope="token:read")
        assert refused.value.error == "invalid_scope"
    with authlib(public, {**made, "key": str(KeyText.new())}, method) as client:
        with pytest.raises(OAuthError) as refused:
            client.fetch_token(grant_type="client_credentials")
        assert refused.value.error == "invalid_client"


@pytest.mark.parametrize("method", METHODS)
def test_authlib_revokes_a_key_and_with_it_its_jwts(
    public: Service, made: dict[str, Any], method: str
) -> None:
    with authlib(public, made, method) as client:
        client.fetch_token(grant_type="client_credentials")
        assert client.post("/token/create").status_code == 201
        endpoint = client.metadata["revocation_endpoint"]
        assert client.revoke_token(endpoint, token=made["key"]).status_code == 200
        until(lambda: client.post("/token/create").status_code == 401, seconds=3)
        problem_in(client.post("/token/create"), 401, "key_invalid")


def test_authlib_finds_the_metadata_valid(make_app: Callable[..., Flask]) -> None:
    """With https, which RFC 8414 demands."""
    app = make_app(public_url="https://tokens.example.com")
    found = AuthorizationServerMetadata(app.test_client().get(METADATA).get_json())
    found.validate()
    assert set(found) <= set(found.REGISTRY_KEYS)
    for name in ("issuer", "token_endpoint", "response_types_supported"):
        with pytest.raises(ValueError, match=name):
            AuthorizationServerMetadata({**found, name: ""}).validate()


@pytest.fixture(scope="module")
def openid_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the client on Node."""
    return node.installed(CLIENTS, tmp_path_factory.mktemp("clients"))


@pytest.mark.slow
def test_openid_client_needs_the_url_and_a_key_alone(
    public: Service, made: dict[str, Any], openid_client: Path
) -> None:
    """It discovers the rest (RFC 8414). In Basic, it encodes also ``_`` (RFC 6749, 2.3.1)."""
    told = json.dumps({"url": public.url, "id": made["id"], "key": made["key"]})
    result = json.loads(node.ran(openid_client, "node", "client.mjs", told=told))
    assert result["lacking"] == [400, "invalid_scope"]
    assert len(result["used"]) == len(METHODS)
    for used in result["used"]:
        assert used["scope"] == "token:consume token:create"
        assert used["statuses"] == [201, 200, 403]
        assert (used["data"], used["consumed_with"]) == ({"order": 7}, made["id"])
        assert used["challenge"]["scheme"] == "bearer"
        assert used["challenge"]["parameters"]["error"] == "insufficient_scope"
        assert used["challenge"]["parameters"]["scope"] == "token:read"
    key = bearer(made["key"])
    until(lambda: httpx.post(public.url + "/token/create", headers=key).status_code == 401, 3)

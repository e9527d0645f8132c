"""The service below a path prefix, which its proxy takes away and names in a header."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import expect

from tests.stage.browsing import Visit, chromium, execute, sign_up
from tests.stage.service import Service
from tests.torture.haproxy import HAProxy, changed, needs_haproxy

PREFIX = {"X-Forwarded-Prefix": "/tokens"}
STRIPS = """http-request replace-path /tokens(/.*) \\1
    http-request set-header X-Forwarded-Prefix /tokens
    http-request set-header X-Forwarded-Proto"""


@pytest.fixture(scope="module")
def behind(make_app: Callable[..., Flask], app: Flask) -> FlaskClient:
    """A client of a service that trusts a proxy."""
    return make_app(trusted_proxies=1).test_client()


def document(client: FlaskClient, **headers: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get("/openapi.json", headers=headers).text)
    return found


@pytest.mark.slow
@needs_haproxy
def test_the_docs_work_below_a_prefix(serve: Callable[..., Service], tmp_path: Path) -> None:
    """Register, authorize and create in a browser, all of it below the prefix.

    Guards: ``x_prefix`` in web/app.py and ``Document.below``.
    """
    strips = changed(
        tmp_path / "changed.cfg", ("http-request set-header X-Forwarded-Proto", STRIPS)
    )
    with (
        serve(web_concurrency=1, trusted_proxies=1) as service,
        HAProxy(tmp_path, [service.port], strips) as proxy,
        chromium() as browser,
    ):
        visit = Visit(browser, proxy.port, "es-ES")
        page = visit.page
        page.goto("/tokens/")
        expect(page).to_have_url(re.compile(r"/tokens/docs$"))
        sign_up(page)
        status, _ = execute(page, "token-createToken", {"expires_in": 120})
        expect(status).to_have_text("201")
        paths = {urlsplit(url).path for url in visit.requested}
        assert {"/tokens/auth/login", "/tokens/token/create", "/tokens/openapi.json"} <= paths
        assert not [path for path in paths if not path.startswith("/tokens/")]
        response = page.goto("/tokens/nowhere")
        assert response is not None
        response = page.goto(response.json()["type"])
        assert response is not None
        assert response.status == 200
        assert urlsplit(page.url).path == "/tokens/problems/not_found"
        expect(page.get_by_text("not_found", exact=True)).to_be_visible()
        # The browser itself reports the 404.
        assert len(visit.complaints) == 1, visit.complaints


@pytest.mark.parametrize("given", ["/tokens", "/tokens/", "/a/tokens", "/v1.2/_t~x", "/x, /tokens"])
def test_links_begin_with_the_prefix(given: str, behind: FlaskClient) -> None:
    headers = {"X-Forwarded-Prefix": given}
    prefix = given.rpartition(",")[2].strip().rstrip("/")
    assert behind.get("/", headers=headers).headers["Location"] == f"{prefix}/docs"
    for path in ("/docs", "/problems/busy"):
        page = behind.get(path, headers=headers).text
        links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', page) if link != "data:,"]
        assert links
        for link in links:
            assert link.startswith(f"{prefix}/")
            with behind.get(link.removeprefix(prefix), headers=headers) as asset:
                assert asset.status_code == 200
    for path, status in (("/nowhere", 404), ("/auth/me", 401), ("/auth/login", 405)):
        response = behind.get(path, headers=headers)
        assert response.status_code == status
        assert response.get_json()["type"] == f"{prefix}/problems/{response.get_json()['code']}"


def test_the_document_names_its_prefix(behind: FlaskClient) -> None:
    below, plain = document(behind, **PREFIX), document(behind)
    [server] = below.pop("servers")
    assert urljoin("https://x.example/tokens/openapi.json", server["url"]).endswith("/tokens")
    flow = below["components"]["securitySchemes"]["password"]["flows"]["password"]
    assert flow["tokenUrl"] == "/tokens/auth/login"
    types = re.findall(r'"(?:type|example)": "(/[^"]*)"', json.dumps(below))
    assert types
    assert all(type_.startswith("/tokens/problems/") for type_ in types)
    # Nothing else differs.
    assert plain.pop("servers") == [{"url": "/"}]
    assert json.loads(json.dumps(below).replace('"/tokens/', '"/')) == plain


@pytest.mark.parametrize(
    "given",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "evil.example",
        "/tokens//evil.example",
        "/../evil",
        "/.",
        "/tokens?x=",
        "/tokens#x",
        "/to kens",
        '/x", "type": "/y',
        '"/tokens, /x',
        "/tokens, //evil.example",
        "/<script>",
        "/caf%C3%A9",
        "/caf\u00e9",
        "/",
        "",
    ],
)
def test_other_text_is_no_prefix(given: str, behind: FlaskClient) -> None:
    """Guard: ``app.PREFIX``. A proxy that does not know the header passes a client's on."""
    expected = "/x/docs" if given.endswith(", /x") else "/docs"
    headers = {"X-Forwarded-Prefix": given}
    response = behind.get("/", headers=headers)
    assert (response.status_code, response.headers["Location"]) == (302, expected)
    assert "evil" not in behind.get("/docs", headers=headers).text
    assert "evil" not in behind.get("/openapi.json", headers=headers).text
    assert "evil" not in behind.get("/nowhere", headers=headers).text


def test_no_prefix_is_believed_without_a_trusted_proxy(client: FlaskClient) -> None:
    assert client.get("/", headers=PREFIX).headers["Location"] == "/docs"
    assert client.get("/nowhere", headers=PREFIX).get_json()["type"] == "/problems/not_found"
    assert document(client, **PREFIX) == document(client)
    assert "/tokens" not in client.get("/docs", headers=PREFIX).text

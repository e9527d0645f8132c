"""The API's description, and the pages that show it, as a newcomer meets them."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.conftest import PASSWORD, Person, Service, lacks, new_correo
from tests.stage.catalogue import PROBLEMS
from tokenservice.token.schemas import TOKEN_VALID
from tokenservice.web import texts

PROBLEM = "application/problem+json"
# A name, because Swagger UI holds back some requests where the address is loopback.
HOST = "docs.test"
WAIT_MS = 20_000  # Only a broken page takes it all; a busy machine takes some.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # There is no network but the service: whatever else is asked for cannot be found.
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# A violation of the policy is an event of the page; this makes a console error of each.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation",
  (event) => console.error("policy:", event.violatedDirective, event.blockedURI));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        lacks("no chromium on PATH. On Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


class Visit:
    """One page of a fresh browser profile, what it asked for and what it complained of."""

    def __init__(self, browser: Browser, service: Service, language: str) -> None:
        self.origin = f"http://{HOST}:{service.port}"
        self.requested: list[str] = []
        self.complaints: list[str] = []
        context = browser.new_context(
            base_url=self.origin, locale=language, viewport={"width": 1200, "height": 900}
        )
        context.add_init_script(REPORT_VIOLATIONS)
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        context.on("request", lambda request: self.requested.append(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._on_console)
        self.page: Page = context.new_page()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def execute(page: Page, operation: str, body: dict[str, Any]) -> tuple[Locator, Locator]:
    """Try an operation out; give where its status and its body are shown.

    Swagger UI writes "Undocumented" beside a status that the description does not hold.
    """
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.locator("textarea.body-param__text").fill(json.dumps(body))
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table tbody tr").first
    return live.locator(".response-col_status"), live.locator(".highlight-code code")


def test_newcomer_uses_a_token_up_by_clicking(browser: Browser, service: Service) -> None:
    """Register, authorize, create, validate and be refused, in the page alone.

    Green by PAGE_POLICY (ops.py), the wheel's assets and what openapi.py describes: the page
    breaks nothing of its policy and asks nobody but the service.
    """
    visit = Visit(browser, service, "es-ES")
    page = visit.page
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/docs$"))
    expect(page.get_by_role("heading", name="Token Service API")).to_be_visible()

    correo = new_correo()
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    status, _ = execute(page, "auth-register", account)
    expect(status).to_have_text("201")

    page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_label("username").fill(correo)
    dialog.get_by_label("password").fill(PASSWORD)
    dialog.locator("button.authorize").click()
    expect(dialog.get_by_role("heading", name="Authorized")).to_be_visible()
    dialog.locator("button.btn-done").click()

    status, answer = execute(page, "token-createToken", {"expires_in": 120})
    expect(status).to_have_text("201")
    token = json.loads(answer.inner_text())["token"]

    status, answer = execute(page, "token-validateToken", {"token": token})
    expect(status).to_have_text("200")
    expect(answer).to_contain_text(TOKEN_VALID["es"])

    page.locator("#operations-token-validateToken button.execute").click()
    expect(status).to_have_text("409")
    expect(answer).to_contain_text('"code": "token_already_used"')
    expect(answer).to_contain_text(PROBLEMS["token_already_used"].es.detail)

    assert {urlsplit(url).netloc for url in visit.requested} == {urlsplit(visit.origin).netloc}
    # The browser itself notes each answer of 400 and up.
    assert len(visit.complaints) == 1, visit.complaints
    assert "409" in visit.complaints[0]


@pytest.mark.parametrize("language", ["es", "en"])
def test_problem_page_speaks_the_readers_language(
    browser: Browser, service: Service, language: texts.Language
) -> None:
    """Green by PAGE_POLICY, which allows the page its style, and by texts.language()."""
    visit = Visit(browser, service, f"{language}-US")
    answer = visit.page.goto("/problems/token_already_used")
    assert answer is not None
    assert answer.header_value("content-language") == language
    text = PROBLEMS["token_already_used"].text(language)
    expect(visit.page).to_have_title(text.title)
    expect(visit.page.get_by_role("heading", name=text.title, exact=True)).to_be_visible()
    expect(visit.page.get_by_text(text.detail, exact=True)).to_be_visible()
    assert visit.page.locator("html").get_attribute("lang") == language
    assert not visit.complaints


@pytest.fixture(scope="module")
def spec(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def operations(spec: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, each)
        for path, ways in spec["paths"].items()
        for method, each in ways.items()
        if method != "parameters"  # What the ways of one path share.
    ]


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` inside, at any depth."""
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from references(inner)


def test_spec_is_whole(spec: dict[str, Any]) -> None:
    """OpenAPI 3.1: references resolve, operations are named, every body has a schema."""
    assert spec["openapi"].startswith("3.1.")
    assert spec["info"]["title"]
    assert spec["info"]["version"]
    for reference in references(spec):
        target = spec
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(names) == len(set(names))
    for method, path, operation in operations(spec):
        assert operation["summary"], path
        for need in operation.get("security", []):
            assert need.keys() <= spec["components"]["securitySchemes"].keys()
        bodies = [operation["requestBody"]] if method == "post" else []
        for status, answer in operation["responses"].items():
            assert answer["description"], (path, status)
            bodies += [answer] if status != "204" else []
        for body in bodies:
            assert body["content"], path
            assert all(media["schema"] for media in body["content"].values()), path


def patterns(value: Any) -> Iterator[str]:
    """Every regular expression inside, at any depth."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "pattern" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            yield from patterns(inner)


def test_spec_speaks_the_regular_expressions_of_javascript(spec: dict[str, Any]) -> None:
    r"""They look anywhere in a text, and ``\Z`` is a letter to them. Guard: ``fields.matching``."""
    found = set(patterns(spec))
    assert len(found) >= 4
    for pattern in found:
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern
        assert not re.search(r"\\[AZz]|\(\?P", pattern), pattern


def test_spec_says_that_a_parameter_may_be_empty(
    client: FlaskClient, person: Person, spec: dict[str, Any]
) -> None:
    parameters = spec["paths"]["/token"]["get"]["parameters"]
    for parameter in parameters:
        assert parameter["allowEmptyValue"]
        answer = client.get(f"/token?{parameter['name']}=", headers=person.headers)
        assert answer.status_code == 200


def test_spec_describes_every_route_of_the_api(app: Flask, spec: dict[str, Any]) -> None:
    """A view that is left out of the blueprints of flask-smorest would be missing here."""
    routed = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("auth.", "token.", "lease."))
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
    }
    assert routed == {(method, path) for method, path, _ in operations(spec)}


def test_spec_gives_every_problem_as_the_service_answers_it(spec: dict[str, Any]) -> None:
    for _, path, operation in operations(spec):
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                continue
            assert [*answer["content"]] == [PROBLEM], (path, status)
            examples = answer["content"][PROBLEM]["examples"]
            assert examples, (path, status)
            for code, example in examples.items():
                value = example["value"]
                assert value["code"] == code
                assert value["status"] == int(status)
                usual = 400 if status == "414" else int(status)
                assert PROBLEMS[code].status == usual
                assert value["type"] == f"/problems/{code}"


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "not JSON": {"data": "{", "content_type": "application/json"},
    "another media type": {"data": "a", "content_type": "text/plain"},
    "too large": {"data": "1" * 20_000, "content_type": "application/json"},
    "unknown field": {"json": {"unknown": 1}},
    "not signed in": {"headers": {}},
    "not a JWT": {"headers": {"Authorization": "Bearer x"}},
    "an old JWT": {},
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_spec_holds_what_bad_requests_are_answered(
    app: Flask, client: FlaskClient, person: Person, spec: dict[str, Any], kind: str
) -> None:
    """Every refusal that anyone can provoke stands in the description of its operation."""
    headers = person.headers
    if kind == "an old JWT":
        with app.app_context():
            old = create_access_token(person.id, expires_delta=datetime.timedelta(hours=-1))
        headers = {"Authorization": f"Bearer {old}"}
    missing = []
    for method, path, operation in operations(spec):
        sent = {"headers": headers, **BAD_REQUESTS[kind]}
        answer = client.open(re.sub(r"{\w+}", "x" * 18, path), method=method.upper(), **sent)
        if answer.status_code >= 400:
            described = operation["responses"].get(str(answer.status_code))
            code = answer.get_json()["code"]
            if not described or code not in described["content"][PROBLEM]["examples"]:
                missing.append(f"{method} {path}: {answer.status_code} {code}")
    assert not missing


def test_docs_need_no_network(client: FlaskClient) -> None:
    """Every file that the page names is served by the service; no page names another host."""
    page = client.get("/docs").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) == 4
    for path in named:
        assert path.startswith("/"), path
        assert not path.startswith("//"), path
        with client.get(path) as asset:
            assert asset.status_code == 200
    assert client.get("/docs/assets/../../flask_swagger_ui.py").status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/assets/swagger-ui.css"])
def test_docs_can_be_turned_off(make_app: Callable[..., Flask], path: str) -> None:
    """Green by the look at ``docs_enabled`` in each view of ops.py."""
    answer = make_app(docs_enabled=False).test_client().get(path)
    assert answer.status_code == 404
    assert answer.mimetype == PROBLEM
    assert answer.get_json()["code"] == "not_found"

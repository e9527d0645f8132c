"""docs/tickets.md: its scripts run, and its codes are those of the service."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.docs.pages import CODE, FENCED, LINK, ROOT, either_language, read, tables
from tests.stage.browsing import WAIT_MS, chromium
from tests.stage.catalogue import PROBLEMS
from tests.stage.service import Service

PAGE = "docs/tickets.md"
OUTPUT = {
    "websocket_handoff.py": [
        "the page has a ticket for 10 s",
        "a stranger cannot use it",
        "ana is in room 7",
        "the same ticket again: token_already_used",
        "a stranger's own ticket: not from the backend",
    ],
    "one_time_download.py": [
        "the connection broke after 64 KiB",
        "the shop gave the ticket back",
        "the whole file arrived",
        "the shop used the ticket up",
        "a second download: token_already_used",
    ],
    "approve_payment.py": [
        "another amount: token_mismatch, field bind",
        "nothing was paid, and the token still is good",
        "the payment was made",
        "same key: the same answer again",
        "another key: token_already_used",
        "it was paid once",
    ],
    "email_link.py": [
        "a scanner opened the link 5 times",
        "the link still is good",
        "the person pressed the button: confirmed",
        "pressed twice: the same answer",
        "opened again later: token_already_used",
    ],
    "login_handover.py": [
        "ana is signed in at the wiki",
        "posted again: token_already_used",
        "mallory's form in ana's browser: refused",
        "in a browser without a nonce: refused",
        "ana still is ana",
        "a token that is not from the portal: refused",
    ],
    "run_once.py": [
        "a second scheduler got the same token for the run",
        "delivered to two workers: token_reserved",
        "the job failed, and of five workers at once one ran it again",
        "delivered again: token_already_used",
        "stalled before the commit: after the lease another ran it too",
        "the stalled worker got lease_ended",
        "the database counted each run once",
        "worker-1 started again: it knows that it had begun",
        "worker-2: token_already_used",
        "a token that is not the scheduler's: refused",
    ],
    "pair_screen.py": [
        "ana's phone read the code and names the screen",
        "a stranger cannot use it at the service",
        "the number alone, without the secret: nobody's",
        "the number typed at the screen: it is ana's",
        "the code again: token_already_used",
        "mallory approved, and ana sees no number: nobody's",
        "ana approved, and mallory sees no number: nobody's",
        "a code that is not the cinema's: token_mismatch",
    ],
}


def run(script: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / script)],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "clients/python/src"),
            "TOKEN_SERVICE": url,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("script", OUTPUT)
def test_an_example_prints_each_step_of_the_page(script: str, service: Service) -> None:
    """Guards: the states, mismatch() and admits() in onetime/scripts, and ``recall`` for the key.

    No output holds a token, the access logs of the examples' own servers included.
    """
    done = run(script, service.url)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [line.removeprefix("ok  ") for line in done.stdout.splitlines()]
    assert [line for line in printed if line in OUTPUT[script]] == OUTPUT[script], done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    assert not re.search(r"ot[tr]_\w", done.stdout + done.stderr)


@pytest.fixture
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("script", OUTPUT)
def test_an_example_fails_on_another_server(script: str, other_server: str) -> None:
    """With an exit status of always 0 the test above would prove nothing."""
    done = run(script, other_server)
    assert done.returncode != 0
    assert done.stderr.startswith("FAILED: ")
    assert "ok  " not in done.stdout


def test_an_example_fails_without_a_server() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, not listening: no other process can take the port
        done = run("email_link.py", f"http://127.0.0.1:{unheard.getsockname()[1]}")
    assert done.returncode != 0
    assert "no answer from" in done.stderr


def test_an_example_fails_on_another_response(serve: Callable[..., Service]) -> None:
    """This service refuses a link that lives for an hour."""
    with serve(onetime_token_expire_seconds=1, onetime_token_max_seconds=1) as short:
        done = run("email_link.py", short.url)
    assert done.returncode != 0
    assert "validation_failed" in done.stderr


def test_the_handshake_is_that_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's gateway and page share one function, so neither would notice a bug."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    handoff = importlib.import_module("websocket_handoff")
    # RFC 6455 section 1.3 gives this pair.
    assert handoff.accept_for("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.slow
def test_a_browser_carries_the_login_from_site_to_site(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: SameSite of the nonce and of the session, and the form that posts itself.

    The browser of the example knows no SameSite.
    """
    monkeypatch.syspath_prepend(ROOT / "examples")
    account = importlib.import_module("account")
    example = importlib.import_module("login_handover")
    monkeypatch.setattr(account, "SERVICE", service.url)
    portal, wiki = account.enrol("portal"), account.enrol("wiki")
    with portal.tokens, wiki.tokens, example.sites(portal, wiki), chromium() as browser:
        session = example.Browser("ana").cookies["__Host-portal"]
        context = browser.new_context()
        at = example.Portal.address.replace("http:", "https:")  # Playwright asks that of __Host-
        context.add_cookies([{"name": "__Host-portal", "value": session, "url": at}])
        page = context.new_page()
        page.goto(f"{example.Wiki.address}/login", wait_until="commit")  # The form goes on.
        expect(page.locator("body")).to_have_text("ana", timeout=WAIT_MS)
        assert page.url == f"{example.Wiki.address}/"
        names = {cookie["name"] for cookie in context.cookies()}
        assert names == {"__Host-portal", "__Host-wiki"}  # The nonce is spent.


@either_language(PAGE)
def test_the_canonical_action_has_the_hash_shown(page: str) -> None:
    [shown] = [text for _, text in FENCED.findall(read(page)) if "amount_cents" in text]
    action, digest = shown.splitlines()
    assert hashlib.sha256(action.encode()).hexdigest() == digest
    again = json.dumps(
        json.loads(action), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert again == action


@either_language(PAGE)
def test_named_refusals_are_those_of_the_service(page: str) -> None:
    """A code that is renamed or given another status in a problems.py turns this red."""
    [rows] = [rows for rows in tables(read(page)) if "`token_expired`" in str(rows)]
    listed = {}
    for statuses, codes, *_ in rows[1:]:
        assert {PROBLEMS[code].status for code in CODE.findall(codes)} == {
            int(status) for status in statuses.split(",")
        }
        listed.update(dict.fromkeys(CODE.findall(codes)))
    of_tokens = {code for code in PROBLEMS if code.startswith(("token_", "lease_"))}
    assert of_tokens <= listed.keys()


@either_language(PAGE)
def test_the_page_leads_to_each_script(page: str) -> None:
    links = [urllib.parse.urlsplit(link) for link in LINK.findall(read(page))]
    for link in links:
        assert link.scheme or ((ROOT / page).parent / link.path).is_file(), link.geturl()
    assert {name for link in links if (name := Path(link.path).name).endswith(".py")} >= {*OUTPUT}

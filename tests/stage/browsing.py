"""A real browser without any network but loopback, and the visit of one page with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.stage.people import PASSWORD, new_correo
from tests.stage.programs import program

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
    # Playwright's own option begins each connection with an error and connects anew. Of several
    # requests at once on a busy machine, Chromium gives some of those up (ERR_TOO_MANY_RETRIES).
    "--ignore-certificate-errors",
    # There is no network but this machine: no other host name resolves.
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, "
    "EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
# A violation of the policy is an event of the page; this makes a console error of each.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation",
  (event) => console.error("policy:", event.violatedDirective, event.blockedURI));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    path = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


class Visit:
    """One page of a fresh browser profile, with its requests and its complaints."""

    def __init__(
        self,
        browser: Browser,
        port: int,
        language: str,
        host: str = HOST,
        scheme: str = "http",
    ) -> None:
        self.origin = f"{scheme}://{host}:{port}"
        self.requested: list[str] = []
        self.complaints: list[str] = []
        context = browser.new_context(
            base_url=self.origin,
            locale=language,
            viewport={"width": 1200, "height": 900},
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


def log_in(page: Page, correo: str, password: str) -> None:
    """Authorize in the dialog of Swagger UI."""
    page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".modal-ux")
    name = page.get_by_role("heading", name="password (OAuth2, password)")
    form = dialog.locator(".auth-container", has=name)
    form.get_by_label("username").fill(correo)
    form.get_by_label("password").fill(password)
    form.locator("button.authorize").click()
    expect(form.locator("input")).to_have_count(0)
    form.locator("button.btn-done").click()


def sign_up(page: Page) -> None:
    """Register an account on the page of the documentation, and authorize as it."""
    expect(page.get_by_role("heading", name="Token Service API")).to_be_visible()
    correo = new_correo()
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    status, _ = execute(page, "auth-register", account)
    expect(status).to_have_text("201")
    log_in(page, correo, PASSWORD)


def execute(page: Page, operation: str, body: dict[str, Any]) -> tuple[Locator, Locator]:
    """Try an operation out, and return the elements that show its status and its body.

    Swagger UI writes "Undocumented", or "Sin documentar", beside a status that the OpenAPI document
    lacks.
    """
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.locator("button.try-out__btn").click()
    block.locator("textarea.body-param__text").fill(json.dumps(body))
    block.locator("button.execute").click()
    live = block.locator(".live-responses-table tbody tr").first
    return live.locator(".response-col_status"), live.locator(".highlight-code code")

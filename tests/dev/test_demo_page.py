"""The page of ``make run`` in a browser, and what it keeps from strangers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, expect

from dev import CannotStart
from dev.demo.keys import current_keys
from dev.demo.texts import PAGE, SAYINGS
from dev.server import free_port
from tests.stage import accessibility
from tests.stage.browsing import HOST, Visit, chromium
from tests.stage.clones import LOCAL, clone_in, printed
from tests.stage.processes import running

pytestmark = pytest.mark.slow

LANGUAGES = ["en", "es"]
WHOLE_TOKEN = re.compile(r"ott_\w{20}")
KEY = re.compile(r"osk_\w+")


@dataclass
class Demo:
    """A running ``make run``, its folder of files and its session of processes."""

    port: int
    local: Path
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/demo"

    def redis(self) -> redis.Redis:
        return redis.from_url(json.loads((self.local / "settings.json").read_text())["redis_url"])

    def keys(self) -> dict[str, str]:
        keys: dict[str, str] = json.loads((self.local / "demo.json").read_text())["keys"]
        return keys


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One for all tests of this module. Each leaves it with Redis running."""
    clone, port = clone_in(tmp_path_factory.mktemp("demo")), free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("database_url", "redis_url", "DATABASE_URL", "REDIS_URL"):
            patch.delenv(name, raising=False)
        with running([*LOCAL, str(port)], clone) as run:
            printed(run)
            yield Demo(port, clone / ".local", run.pid)
            os.killpg(run.pid, signal.SIGINT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Browser, demo: Demo) -> Callable[..., Visit]:
    """Visit the page in one language, on a screen of one width."""

    def begin(language: str, width: int = 1280) -> Visit:
        visit = Visit(browser, demo.port, f"{language}-US", host="127.0.0.1")
        visit.page.set_viewport_size({"width": width, "height": 800})
        visit.page.goto("/demo")
        return visit

    return begin


def press(page: Page, button: str, said: str) -> Locator:
    """Press a button, and return the run that it adds, once that says what it is to say."""
    page.locator(f"[data-run={button}]").click()
    return told(page, said)


def told(page: Page, said: str) -> Locator:
    run = page.locator(".run").first
    expect(run.locator(".verdict")).to_have_text(said)
    expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("status")).to_have_text(said)
    return run


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_button_shows_what_the_service_promises(
    visit: Callable[..., Visit], demo: Demo, language: str, width: int
) -> None:
    """And neither the page nor its script needs more than the strict policy allows."""
    here, said, words = visit(language, width), SAYINGS[language], PAGE[language]
    page = here.page
    assert page.locator("html").get_attribute("lang") == language
    expect(page.get_by_role("heading", level=1)).to_have_text(words["promise"])

    run = press(page, "create", said["created"])
    expect(run.locator(".backend .status")).to_have_text("201 Created")
    expect(page.locator(".token .state")).to_have_text(words["fresh"])

    run = press(page, "use", said["consumed"])
    expect(run.locator(".gateway .status")).to_have_text("200 OK")
    expect(page.locator(".token .state")).to_have_text(words["used"])

    run = press(page, "again", said["token_already_used"])
    expect(run.locator(".gateway .status")).to_have_text("409 Conflict")
    expect(run.locator("mark")).to_have_text('"token_already_used"')

    run = press(page, "race", said["raced"].format(won=1, lost=19))
    assert sorted(run.locator(".race li").all_inner_texts()) == ["200", *["409"] * 19]
    assert run.locator(".race .good").count() == 1

    run = press(page, "lose", said["replayed"])
    assert run.locator(".gateway .status").all_inner_texts() == [words["thrown_away"], "200 OK"]
    first, again, replayed = run.locator("mark").all_inner_texts()
    assert (first, replayed) == (again, "true")

    with demo.redis() as client:
        before = client.info("server")["run_id"]
    run = press(page, "restart", said["token_lost"])
    with demo.redis() as client:
        assert client.info("server")["run_id"] != before
    expect(run.locator("mark")).to_have_text('"token_lost"')
    expect(run.locator(".gateway .status")).to_have_text("410 Gone")
    expect(page.locator(".token .state")).to_have_text(words["lost"])

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert here.complaints == []
    assert all(url.startswith(here.origin) for url in here.requested)
    assert not WHOLE_TOKEN.search(page.content())
    assert not KEY.search(page.content())


def test_it_works_by_keyboard_and_says_so_to_a_screen_reader(visit: Callable[..., Visit]) -> None:
    """The focus is visible and stays, and a button first does what must come first."""
    page, said = visit("en").page, SAYINGS["en"]
    focused = page.locator(":focus")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(focused.get_attribute("data-run"))
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    assert reached == [None, None, "create", "use", "again", "race", "lose", "restart"]
    page.keyboard.press("Shift+Tab")
    focused.evaluate("element => { element.click(); element.click(); }")  # busy the second time
    told(page, said["replayed"])
    assert focused.get_attribute("data-run") == "lose"
    assert page.locator(".run").count() == 1
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    run = told(page, said["token_already_used"])
    assert run.locator(".gateway .status").all_inner_texts() == ["409 Conflict"]
    assert page.get_by_role("button", name="20 at once").get_attribute("aria-describedby")


def test_axe_finds_nothing_serious(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """With every kind of run on the page, at either width and in either scheme of colours."""
    page, said = visit("es", 390).page, SAYINGS["es"]
    press(page, "race", said["raced"].format(won=1, lost=19))
    press(page, "lose", said["replayed"])
    script = accessibility.axe(tmp_path)
    for width, scheme in itertools.product([390, 1280], ["light", "dark"]):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert accessibility.serious(page, script) == []


def test_a_link_leads_to_the_other_language(visit: Callable[..., Visit]) -> None:
    page = visit("en").page
    page.get_by_role("link", name="Español").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGE["es"]["promise"])
    press(page, "create", SAYINGS["es"]["created"])
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGE["en"]["promise"])


def test_without_redis_it_says_so_and_a_restart_mends_it(
    visit: Callable[..., Visit], demo: Demo
) -> None:
    page, said = visit("en").page, SAYINGS["en"]
    with demo.redis() as client:
        client.shutdown(nosave=True)
    run = press(page, "create", said["down"])
    expect(run.locator(".status")).to_have_text("503 Service Unavailable")
    press(page, "restart", said["restarted"])
    press(page, "use", said["consumed"])


def test_without_postgres_it_says_so(visit: Callable[..., Visit], demo: Demo) -> None:
    """The page itself needs none."""
    [file] = (demo.local / "postgres").glob("**/postmaster.pid")
    postmaster = int(file.read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    paused = [postmaster, *map(int, children)]
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        page = visit("es").page
        press(page, "create", SAYINGS["es"]["down"])
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    press(page, "use", SAYINGS["es"]["consumed"])


def test_without_the_service_it_says_so(visit: Callable[..., Visit]) -> None:
    page = visit("en").page
    page.route("**/demo/create*", lambda route: route.abort())
    press(page, "create", SAYINGS["en"]["silent"])


def own(demo: Demo) -> dict[str, str]:
    """The headers of the page itself."""
    return {"Origin": f"http://127.0.0.1:{demo.port}"}


def test_another_name_of_this_machine_gets_nothing(browser: Browser, demo: Demo) -> None:
    """Guard: the ``Host`` in ``refuse_strangers``. A rebound name of another site is such a one."""
    rebound = Visit(browser, demo.port, "en-US").page.goto("/demo")
    assert rebound is not None
    assert rebound.status == 403
    for host in (f"{HOST}:{demo.port}", "localhost.example.com", "127.0.0.1.nip.io", "10.0.0.1"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        for path in ("", "/static/demo.js"):
            assert httpx.get(demo.url + path, headers=headers, timeout=30).status_code == 403
        assert httpx.post(f"{demo.url}/create", headers=headers, timeout=30).status_code == 403
    for host in (f"localhost:{demo.port}", f"127.0.0.1:{demo.port}", f"[::1]:{demo.port}"):
        assert httpx.get(demo.url, headers={"Host": host}, timeout=30).status_code == 200


def test_a_page_of_another_origin_presses_no_button(demo: Demo) -> None:
    """Guard: the ``Origin`` in ``refuse_strangers``."""
    with demo.redis() as client:
        before = client.info("server")["run_id"]
        for origin in (None, "null", "http://evil.example", f"http://localhost:{demo.port + 1}"):
            headers = {"Origin": origin} if origin else {}
            for step in ("create", "consume", "race", "lose", "restart"):
                refused = httpx.post(f"{demo.url}/{step}", headers=headers, timeout=30)
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert client.info("server")["run_id"] == before
    assert httpx.post(f"{demo.url}/create", headers=own(demo), timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 415), (b"{", 400), (b"[]", 422), (b'{"token": 7}', 422)]
)
def test_a_call_without_a_token_is_a_problem(demo: Demo, body: bytes, status: int) -> None:
    headers = own(demo) | ({"Content-Type": "application/json"} if body else {})
    refused = httpx.post(f"{demo.url}/consume", headers=headers, content=body, timeout=30)
    assert refused.status_code == status
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_no_key_leaves_the_server_and_no_token_is_logged(demo: Demo) -> None:
    """Neither is in what a browser gets, in a log, in an argument or readable by others."""
    keys = demo.keys()
    created = httpx.post(f"{demo.url}/create", headers=own(demo), timeout=30)
    token = created.json()["token"]
    consumed = httpx.post(
        f"{demo.url}/consume", headers=own(demo), json={"token": token}, timeout=30
    )
    assert json.dumps(consumed.json()).count("200 OK") == 1
    got = [created, consumed, *map(httpx.get, [demo.url, f"{demo.url}/static/demo.js"])]
    for secret in (*keys.values(), "osk_"):
        assert not [response for response in got if secret in response.text]
    for log in demo.local.glob("*.log"):
        text = log.read_text(errors="replace")
        assert not KEY.search(text), log
        assert not WHOLE_TOKEN.search(text), log
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        words = ""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
            words = process.read_text(errors="replace")
        assert "osk_" not in words
    assert stat.S_IMODE((demo.local / "demo.json").stat().st_mode) == 0o600


def test_keys_are_kept_as_long_as_the_service_knows_them(demo: Demo) -> None:
    password = (demo.local / "demo_password").read_text()
    account = ("demo@example.com", password)
    keys = demo.keys()
    assert current_keys(demo.port, keys, *account) == keys
    stale = keys | {"gateway": "osk_" + "0" * 56}
    anew = current_keys(demo.port, stale, *account)
    assert anew.keys() == keys.keys()
    assert not set(anew.values()) & set(stale.values())
    for side, mine, others in (("backend", "create", "consume"), ("gateway", "consume", "create")):
        headers = {"Authorization": f"Bearer {anew[side]}"}
        url = f"http://127.0.0.1:{demo.port}/token"
        refused = httpx.post(f"{url}/{others}", headers=headers, json={}, timeout=30)
        assert refused.json()["code"] == "insufficient_scope"
        assert httpx.post(f"{url}/{mine}", headers=headers, json={}, timeout=30).status_code != 401
    with pytest.raises(CannotStart, match=r"^The page has no service keys\. /auth/login: "):
        current_keys(demo.port, {}, account[0], "another password")

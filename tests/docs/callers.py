"""Callers of a deployment, who go on while an operator works on it."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.docs.deployed import Deployment
from tests.stage.waiting import until

CALLERS, PAUSE_SECONDS = 3, 0.15
#: The time for which a caller uses one login: shorter than a reload.
LOGIN_SECONDS = 1.0
TERMS = {"purpose": "chat", "expires_in": 600}
PRESENTED = {"purpose": "chat", "issued_by": ["backend@example.com"]}
#: Of a caller who repeats a call with its key.
TRIES, TRY_AGAIN_SECONDS = 100, 0.1
Outcomes = Counter[str]


class Program:
    """A program with the key of the pages, and its account, before the service itself."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed

    def log_in(self, correo: str = "backend@example.com") -> httpx.Response:
        password = (self._deployed.folder / "backend_password").read_text().strip()
        return self.post("/auth/login", {"correo": correo, "password": password})

    def create(self) -> str:
        created = self.post("/token/create", TERMS)
        assert created.status_code == 201, created.text
        return str(created.json()["token"])

    def consume(self, token: str) -> httpx.Response:
        return self.post("/token/consume", {"token": token, **PRESENTED})

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        name, key = (self._deployed.folder / "backend.header").read_text().strip().split(": ")
        given = {name: key} if path.startswith("/token") else {}
        return httpx.post(f"{self._deployed.service}{path}", json=body, headers=given, timeout=30)


class Callers:
    """Programs that log in, create a token by their key or their JWT, and consume it; then again.

    They read the key and the password from the files of the pages, each time anew.

    :ivar outcomes: the number of tokens ``consumed`` once, ``lost`` or consumed ``twice``, of calls
        repeated after a 503, by its code (``503 busy``), or on a new connection (``reconnected``),
        and of every other response by its call, status and code
    """

    def __init__(self, url: str, folder: Path, authority: Path) -> None:
        self._url, self._folder, self._trust = (
            url,
            folder,
            ssl.create_default_context(cafile=authority),
        )
        self.outcomes: Outcomes = Counter()
        self._logins: dict[int, float] = {}  # the last one's time, by thread
        self._counting = threading.Lock()
        self._over = threading.Event()

    @contextlib.contextmanager
    def calling(self) -> Iterator[Outcomes]:
        """Call in the block, and a little before and after it; count what comes of it."""
        threads = [threading.Thread(target=self._work) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            self.more()
            yield self.outcomes
            self.more()
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def more(self, lives: int = 6) -> None:
        """Wait until so many tokens more are consumed."""
        enough = self.outcomes["consumed"] + lives
        until(lambda: self.outcomes["consumed"] >= enough)

    def anew(self) -> None:
        """Wait until each caller uses a login of after now; its life of before is over then."""
        now = time.monotonic()
        until(lambda: sum(at > now for at in self._logins.copy().values()) == CALLERS)

    def _work(self) -> None:
        person, since = {}, -LOGIN_SECONDS
        with httpx.Client(base_url=self._url, verify=self._trust, timeout=30) as http:
            while not self._over.is_set():
                try:
                    if time.monotonic() - since > LOGIN_SECONDS:
                        since = time.monotonic()
                        person = self._log_in(http)
                        self._logins[threading.get_ident()] = since
                    self._live(http, person)
                except httpx.TransportError as error:
                    self._count(repr(error))
                except KeyError:  # Its refusal is counted.
                    since = -LOGIN_SECONDS
                time.sleep(PAUSE_SECONDS)

    def _log_in(self, http: httpx.Client) -> dict[str, str]:
        account = {"correo": "backend@example.com", "password": self._read("backend_password")}
        login = self._post(http, "/auth/login", account).json()
        return {"Authorization": f"Bearer {login['access_token']}"}

    def _live(self, http: httpx.Client, person: dict[str, str]) -> None:
        """One token, and after a pause three attempts to consume it."""
        name, _, key = self._read("backend.header").partition(": ")
        program = {name: key}
        one, other = secrets.SystemRandom().sample([person, program], 2)
        created = self._post(http, "/token/create", TERMS, one).json()
        body = {"token": created["token"], **PRESENTED}
        time.sleep(PAUSE_SECONDS)
        attempts = [self._post(http, "/token/consume", body, who) for who in (one, other, other)]
        successes = [attempt.status_code for attempt in attempts].count(200)
        self._count(("lost", "consumed")[successes] if successes < 2 else "twice")

    def _post(
        self,
        http: httpx.Client,
        path: str,
        body: dict[str, object],
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        keyed = {"Idempotency-Key": secrets.token_hex(8), **(headers or {})}
        for _ in range(TRIES):
            try:
                response = http.post(path, json=body, headers=keyed)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                self._count("reconnected")  # It was closed at the moment of the call.
                continue
            if response.status_code != 503:
                break
            self._count(f"503 {response.json()['code']}")
            time.sleep(TRY_AGAIN_SECONDS)
        code = response.json().get("code", "")
        if not response.is_success and code not in ("token_already_used", "token_lost"):
            self._count(f"{path} {response.status_code} {code}")
        return response

    def _count(self, outcome: str) -> None:
        with self._counting:
            self.outcomes[outcome] += 1

    def _read(self, name: str) -> str:
        """The content of a file, which may be about to be written."""
        for _ in range(TRIES):
            if text := (self._folder / name).read_text().strip():
                return text
            time.sleep(TRY_AGAIN_SECONDS)
        raise AssertionError(f"{name} is empty")

"""The previous release and this one side by side: a rolling update, there and back."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stage.paths import ROOT
from tests.stage.people import Person, enrol
from tests.stage.programs import lacks, program
from tests.stage.service import Service
from tests.stage.sessions import Login
from tests.stage.waiting import until
from tests.torture import deployed
from tests.torture.ledger import FULL, record, trials
from tests.torture.manifests import Manifests, kustomization, production, run_job, secrets_of
from tests.torture.rollout import Pod, Rollout
from tokenservice.onetime.format import Token

#: The last commit of the previous release, and the last one without service keys.
BEFORE = "0266fb5"
WITHOUT_KEYS = "ba7a16a"
CALLERS = 4
#: The pause of a caller between two tokens, so that a starting service has its part of the cores.
PAUSE_SECONDS = 0.2
#: Over the kustomization of docs/kubernetes.md: the stores here, accounts, and calls without limit.
HERE = """
namespace: token-service
resources: [../production]
configMapGenerator:
  - name: token-service
    namespace: token-service
    behavior: merge
    literals:
      - db_host=127.0.0.1
      - db_port={postgres}
      - db_name=deployed
      - redis_host=127.0.0.1
      - redis_port={redis}
      - redis_timeout_ms=2000
      - max_active=1000000
      - registration=open
      - rate_limit_register=off
      - rate_limit_login=off
      - rate_limit_create=off
      - rate_limit_validate=off
"""
#: More of it, for a short run.
QUICK = """\
      - web_concurrency=1
      - drain_seconds=2
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the previous release."""
    return code_of(BEFORE, tmp_path_factory.mktemp("before"))


def code_of(revision: str, root: Path) -> Path:
    """The code of a revision, in a folder."""
    archive = subprocess.run(
        [program("git"), "archive", "--format=tar", revision],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        lacks("the history of this repository")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as code:
        code.extractall(root, filter="data")
    return root


class Callers:
    """Callers that send each call, and each repeat, to a random one of several services."""

    def __init__(self, urls: Sequence[str], people: Sequence[Person]) -> None:
        self.urls, self.people = urls, people
        self.found: Counter[str] = Counter()
        self._counting = threading.Lock()

    def run(self, tokens: int) -> Counter[str]:
        with ThreadPoolExecutor(CALLERS) as pool:
            for ended in [
                pool.submit(self._work, range(tokens // CALLERS)) for _ in range(CALLERS)
            ]:
                ended.result()
        return self.found

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Counter[str]]:
        """Run during the ``with``. Every other caller opens a connection for each call."""
        over = threading.Event()

        def turns() -> Iterator[int]:
            return itertools.takewhile(lambda _: not over.wait(PAUSE_SECONDS), itertools.count())

        with ThreadPoolExecutor(CALLERS) as pool:
            kept = (None, 0, None, 0)
            working = [pool.submit(self._work, turns(), connections) for connections in kept]
            try:
                yield self.found
            finally:
                over.set()
            for ended in working:
                ended.result()

    def _work(self, turns: Iterable[int], kept: int | None = None) -> None:
        """:param kept: the number of connections kept for a further call; None for all"""
        limits = httpx.Limits(max_keepalive_connections=kept)
        with httpx.Client(timeout=30, limits=limits) as http:
            for n in turns:
                for found in self._life(http, is_held=n % 3 == 0, is_named=n % 2 == 0):
                    with self._counting:
                        self.found[found] += 1

    def _life(self, http: httpx.Client, *, is_held: bool, is_named: bool) -> list[str]:
        """Create, consume and repeat each, on random versions; then another caller tries.

        The previous release binds a token to an address, and this one to the id of its account.
        """
        first, second = self.people
        found = []

        def post(path: str, caller: Person, key: str = "", **body: Any) -> httpx.Response:
            headers = {**caller.headers, "Idempotency-Key": key} if key else caller.headers
            url = f"{secrets.choice(self.urls)}/token/{path}"
            response = http.post(url, json=body, headers=headers)
            if response.status_code >= 500:
                found.append(f"{path} {response.status_code}")
            return response

        make, use = secrets.token_hex(8), secrets.token_hex(8)
        terms = {"audience": [first.correo, second.id]} if is_named else {}
        texts = [post("create", first, make, expires_in=60, **terms).json()["token"] for _ in "ab"]
        # The releases write the epoch of a token differently, and nothing else of it.
        if len({(token.id, token.secret) for token in map(Token.parse, texts)}) > 1:
            found.append("a repeated create made another")
        token = {"token": secrets.choice(texts)}
        if is_held:
            hold = {post("reserve", first, use, **token).json()["reservation"] for _ in "ab"}
            if len(hold) > 1:
                found.append("a repeated reserve made another")
            path, token_or_hold = "commit", {"reservation": hold.pop()}
        else:
            path, token_or_hold = "validate", token
        responses = [post(path, first, use, **token_or_hold) for _ in "abc"]
        replays = [response.json().get("replayed", response.status_code) for response in responses]
        found.append("consumed" if replays == [False, True, True] else f"{path} {replays}")
        if (other := post("validate", second, **token)).status_code != 409:
            found.append(f"another caller: {other.status_code}")
        return found


def test_two_releases_work_side_by_side(before: Path, serve: Callable[..., Service]) -> None:
    """On one Redis and one Postgres: each honours the tokens of the other, once."""
    # A token consumed by one release counts as outstanding at the other until it expires.
    settings = {"web_concurrency": 1, "max_active": 1_000_000}
    with serve(root=before, **settings) as older, serve(**settings) as newer:
        urls = older.url, newer.url
        with httpx.Client(base_url=newer.url, timeout=30) as http:
            people = [enrol(http.post) for _ in "ab"]
        found = Callers(urls, people).run(trials(5000, least=200))
    wrong = {what: n for what, n in found.items() if what != "consumed"}
    record(
        "the previous release and this one work side by side: each token is honoured once, each "
        "keyed repeat is a replay, and no response is a 5xx",
        n=found["consumed"],
        failures=sum(wrong.values()),
        figures=f"against {BEFORE}",
    )
    assert not wrong


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[deployed.Postgres, deployed.Redis]]:
    """Those of deploy/, with its roles and users."""
    with (
        deployed.Postgres(tmp_path / "postgres") as postgres,
        deployed.Redis(tmp_path / "redis") as redis,
    ):
        yield postgres, redis


def test_a_rolling_update_and_back_fail_no_call(
    stores: tuple[deployed.Postgres, deployed.Redis], tmp_path: Path
) -> None:
    """As docs/kubernetes.md says, under load, by the manifests of deploy/kubernetes.

    Guards there: the probe of readiness, ``drain_seconds`` and the grace period.
    """
    older = code_of(WITHOUT_KEYS, tmp_path / "older")
    postgres, redis = stores
    production(tmp_path)
    text = HERE.format(postgres=postgres.port, redis=redis.port) + ("" if FULL else QUICK)
    manifests = Manifests(kustomization(tmp_path / "here", text))
    secrets = secrets_of(postgres, redis)
    of_serve = manifests.environment(manifests.serve, secrets, tmp_path / "serve")
    of_migrate = manifests.environment(manifests.migrate, secrets, tmp_path / "migrate")
    # The Service hears of the end of a pod in half of the time for which that goes on serving.
    lag = int(of_serve["drain_seconds"]) / 2
    logs = (tmp_path / f"{number}.log" for number in itertools.count())
    replicas = manifests.named("HorizontalPodAutoscaler")["spec"]["minReplicas"] if FULL else 1

    def deploy(root: Path) -> None:
        migrated = run_job(manifests.migrate, of_migrate, root)
        assert migrated.returncode == 0, migrated.stderr
        rollout.roll(lambda: Pod(manifests.serve, of_serve, next(logs), root))

    rounds = trials(10)
    with Rollout(manifests, replicas, lag) as rollout:
        deploy(older)
        with httpx.Client(base_url=rollout.url, timeout=30) as http:
            people = [enrol(http.post) for _ in "ab"]
        with Callers([rollout.url], people).at_work() as found:
            for _ in range(rounds):
                deploy(ROOT)
                deploy(older)
            rollout.settle()
    wrong = {what: n for what, n in found.items() if what != "consumed"}
    record(
        f"A rolling update by the manifests of Kubernetes, and back ({rounds} times): no call "
        "fails, each token is honoured once, and no pod outlives its grace period",
        n=found["consumed"],
        failures=sum(wrong.values()) + rollout.killed,
        figures=f"against {WITHOUT_KEYS}, {replicas} pods",
    )
    assert found["consumed"] > 20
    assert not wrong
    assert not rollout.killed


def test_a_version_without_keys_works_beside_one_with_them(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """On one Redis and one Postgres, a rolling update and back: it refuses keys, and no more.

    It would take the JWT of a key for the person's, but for the type of the JWT.
    """
    older_code = code_of(WITHOUT_KEYS, tmp_path)
    with serve(root=older_code, web_concurrency=1) as older, serve(web_concurrency=1) as newer:
        with httpx.Client(timeout=30) as http:

            def post(service: Service, path: str, credentials: str, **body: Any) -> httpx.Response:
                headers = {"Authorization": f"Bearer {credentials}"}
                response = http.post(f"{service.url}/{path}", json=body, headers=headers)
                assert response.status_code < 500, response.text
                return response

            person = enrol(lambda path, **given: http.post(f"{older.url}{path}", **given))
            human = person.headers["Authorization"].removeprefix("Bearer ")
            scopes = ["token:create", "token:consume", "token:read"]
            made = post(newer, "auth/keys", human, name="a", scopes=scopes).json()
            form = {"grant_type": "client_credentials", "client_secret": made["key"]}
            jwt = http.post(f"{newer.url}/auth/token", data=form).json()["access_token"]
            for credentials in (made["key"], jwt):
                for path in ("token/create", "token/validate", "auth/me"):
                    refused = http.get if path == "auth/me" else http.post
                    response = refused(
                        f"{older.url}/{path}", headers={"Authorization": f"Bearer {credentials}"}
                    )
                    assert response.status_code == 401, path
                for first, second in ((newer, older), (older, newer)):
                    maker = credentials if first is newer else human
                    user = credentials if second is newer else human
                    keyed = {"expires_in": 60}
                    token = post(first, "token/create", maker, **keyed).json()["token"]
                    held = post(second, "token/reserve", user, token=token).json()["reservation"]
                    assert post(first, "token/commit", maker, reservation=held).status_code == 404
                    done = post(second, "token/commit", user, reservation=held)
                    assert done.status_code == 200
                    assert post(first, "token/validate", maker, token=token).status_code == 409
                    receipt = http.get(
                        f"{newer.url}/token/{done.json()['id']}", headers=person.headers
                    ).json()
                    assert receipt["issued_with"] == (made["id"] if first is newer else None)
                    assert receipt["consumed_with"] == (made["id"] if second is newer else None)
        # Each goes on looking at the changes: the migration left the older triggers as they were.
        for service in (older, newer):
            assert '"callers.unwatched"' not in service.log.read_text()


def test_a_version_without_sessions_works_beside_one_with_them(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """A rolling update and back. It takes the JWTs of sessions, and knows no end of one."""
    older_code = code_of(WITHOUT_KEYS, tmp_path)
    with (
        serve(root=older_code, web_concurrency=1) as older,
        serve(web_concurrency=1) as newer,
        httpx.Client(timeout=30) as http,
    ):

        def post(service: Service) -> Callable[..., httpx.Response]:
            def to(path: str, **given: Any) -> httpx.Response:
                response = http.post(f"{service.url}{path}", **given)
                assert response.status_code < 500, response.text
                return response

            return to

        def served(service: Service, headers: dict[str, str]) -> bool:
            return post(service)("/token/create", headers=headers).status_code == 201

        person = enrol(post(older))
        login = Login.of(post(newer), person)
        stays = Login.of(post(newer), person)
        for service in (older, newer, older):
            assert served(service, person.headers)
            assert served(service, login.headers)
            login = login.refresh()
        assert login.act("logout").status_code == 204
        until(lambda: not served(newer, login.headers), seconds=2)
        assert login.present().status_code == 401
        assert served(older, login.headers)  # Until the last old instance is gone, as is said.
        assert served(newer, person.headers)
        assert served(newer, stays.refresh().headers)

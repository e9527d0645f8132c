"""The users of deploy/redis: only the commands that the service uses, and only its keys."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.utils import str_if_bytes

import dev
from tests.stage import topologies
from tests.stage.connections import connect
from tests.stage.topologies import Topology
from tests.stage.waiting import until
from tests.torture import deployed
from tests.torture.ledger import record
from tokenservice.onetime.errors import StoreUnavailable, TokenRefused, TooManyActive
from tokenservice.onetime.scripts import SCRIPTS
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Created, Party, Presented
from tokenservice.web import counters
from tokenservice.web.counters import Counters, Log

USER = deployed.REDIS_USER
RULES = deployed.acl("users.acl")[USER]
COMMANDS = {rule[1:] for rule in RULES if rule.startswith("+")}
# Commands that the client sends besides the scripts, and those that go to a cluster alone.
OF_CLUSTERS = {"cluster|info", "cluster|slots", "command"}
SENT = {"eval", "evalsha", "info", "select", *OF_CLUSTERS}
# Open to every connection: they log a client in or out.
BEFORE_LOGIN = {"auth", "hello", "quit", "reset"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    """A Redis with an unrestricted default user, for the tests themselves."""
    with dev.Redis(tmp_path_factory.mktemp("users")) as server:
        yield server


@pytest.fixture
def admin(server: dev.Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
        let_in(client, USER, RULES, server.password)
        yield client


def let_in(client: redis.Redis, user: str, rules: list[str], password: str) -> None:
    client.execute_command("ACL", "SETUSER", user, "reset", *rules, f">{password}")


def as_user(url: str, user: str = USER, db: int | None = None) -> str:
    """``url`` with another user, and perhaps another database, in it."""
    url = url.replace("://:", f"://{user}:")
    return url if db is None else re.sub(r"/\d+$", f"/{db}", url)


def test_the_user_has_exactly_the_commands_of_the_code() -> None:
    """S58. A command that a script gains or loses fails this test."""
    named = {
        name.lower()
        for text in [*SCRIPTS.values(), *counters.SCRIPTS]
        for name in re.findall(r"redis\.p?call\('(\w+)'", text)
    }
    assert named - {"cluster"} | SENT == COMMANDS
    assert RULES[0] == "on"
    assert set(RULES[1:]) - {f"+{name}" for name in COMMANDS} == {
        "resetchannels",
        "~ott:*",
        "~rate:*",
        "-@all",
    }


def use_every_operation(url: str, shards: int = 1) -> None:
    """Run every verb, the count of a limit, and the probe of readiness; each must succeed."""
    opened = connect(url, connect_ms=2000, read_ms=5000, connections=4)
    store = TokenStore(opened, secret=secrets.token_bytes(32), max_active=5, shards=shards)
    ana, key = Party(secrets.token_hex(8), "ana@example.com"), secrets.token_hex(8)

    def create() -> Created:
        return store.create(ana.id, life_seconds=60)

    def present(token: Created) -> Presented:
        return Presented(token.text)

    assert opened.info()[0]["role"] == "master"
    store.probe()
    created = store.create(ana.id, life_seconds=60, key=key)
    assert store.create(ana.id, life_seconds=60, key=key).id == created.id
    assert store.validate(present(created), ana, key=key).id == created.id
    assert store.validate(present(created), ana, key=key).replayed
    with pytest.raises(TokenRefused):
        store.validate(present(created), ana)
    assert store.receipt(created.id).replays == 1

    token = create()
    released = store.reserve(present(token), ana, lease_seconds=30)
    store.release(released.text, ana)
    held = store.reserve(present(token), ana, lease_seconds=30, key=key)
    assert store.commit(held.text, ana, key=key).id == token.id

    token = create()
    assert store.introspect(token.text, ana)
    store.revoke(token.text, ana)
    store.revoke_id(create().id, ana)
    store.create_many(ana.id, 5, life_seconds=60)
    with pytest.raises(TooManyActive):
        create()
    assert len(store.list_for(ana.id).items) == 9
    store.revoke_all(ana.id, purpose="pay")
    store.revoke_all(ana.id, disable=True)
    store.enable(ana.id)
    assert store.validate(present(create()), ana).owner == ana.id

    # The counters share one count: it is in Redis, and in neither's memory.
    one, other = (
        Counters(opened, workers=1, secret=b"", timed=lambda _: contextlib.nullcontext())
        for _ in range(2)
    )
    assert [one.add(ana.id, 60, 10)[0], other.add(ana.id, 60, 10)[0]] == [1, 2]
    tag = f"{{{ana.id}}}"
    logs = [Log("login", f"a:{tag}", 5, 5, 60), Log("login-correo", f"b:{tag}", 9, 0, 60)]
    failed = [one.attempt(logs, network, tag) for network in ("here", "there")]
    assert [verdict.remaining for verdict in failed[1].verdicts] == [3, 7]
    for n in range(counters.KNOWN_NETWORKS + 1):
        right = one.attempt(logs, f"network {n}", tag)
        other.give_back(right, remember=True)
    assert len(other.attempt(logs, "network 0", tag).verdicts) == 2
    known = other.attempt(logs, "network 1", tag)
    assert [verdict.remaining for verdict in known.verdicts] == [1]


def test_every_operation_works_and_nothing_is_refused(
    server: dev.Redis, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "LOG", "RESET")
    use_every_operation(as_user(server.url, db=1))
    assert admin.execute_command("ACL", "LOG") == []


def test_every_permitted_command_is_needed(server: dev.Redis, admin: redis.Redis) -> None:
    """The twin of the test above: it fails without any one of the commands."""
    needless = []
    for command in COMMANDS - OF_CLUSTERS:
        let_in(admin, USER, [rule for rule in RULES if rule != f"+{command}"], server.password)
        admin.script_flush()
        with contextlib.suppress(StoreUnavailable, AssertionError):
            use_every_operation(as_user(server.url, db=1))
            needless.append(command)
    assert needless == []


def test_nothing_else_is_permitted(server: dev.Redis, admin: redis.Redis) -> None:
    """Guard: -@all in users.acl. Every other command that this server knows is refused."""
    others = [
        words for words in every_command(admin) if not COMMANDS & {words[0], "|".join(words[:2])}
    ]
    with redis.Redis.from_url(as_user(server.url)) as client:
        permitted = [words for words in others if not refused(client, words)]
    record(
        "The service's user in Redis may run no command that the service does not use.",
        n=len(others),
        failures=len(permitted),
    )
    assert {"flushall", "config", "keys", "debug"} <= {words[0] for words in others}
    assert permitted == []


def every_command(client: redis.Redis) -> Iterator[list[str]]:
    """Each command of this server, with its least number of arguments."""
    for name, facts in client.command().items():
        # Since Redis 7 a container lists its subcommands, and only those can be called.
        for entry in facts.get("subcommands") or [[name, facts["arity"]]]:
            words = str_if_bytes(entry[0]).split("|")
            if words[0] not in BEFORE_LOGIN:
                yield words + ["1"] * (abs(entry[1]) - len(words))


def refused(client: redis.Redis, words: list[str]) -> bool:
    try:
        client.execute_command(*words)
    except redis.ResponseError as error:
        # EXEC words it differently, and DEBUG and MODULE have a lock of their own since Redis 7.
        text = str(error)
        return isinstance(error, NoPermissionError) or "NOPERM" in text or "not allowed" in text
    return False


def test_no_other_key_can_be_reached(server: dev.Redis, admin: redis.Redis) -> None:
    """Guard: the two patterns in users.acl, for scripts too."""
    admin.set("session:1", "theirs")
    with redis.Redis.from_url(as_user(server.url)) as client:
        assert refused(client, ["GET", "session:1"])
        assert refused(client, ["SET", "session:1", "ours"])
        assert refused(client, ["EVAL", "return 1", "1", "session:1"])
        with pytest.raises(redis.ResponseError, match="access"):
            client.eval("return redis.call('GET', 'session:1')", 0)
        with pytest.raises(redis.ResponseError, match="run"):
            client.eval("return redis.call('FLUSHALL')", 0)
    assert admin.get("session:1") == b"theirs"


def test_only_the_service_can_log_in_to_the_deployed_redis(tmp_path: Path) -> None:
    """Guards: "user default off" in users.acl, and the last lines of start.sh."""
    with deployed.Redis(tmp_path) as server:
        use_every_operation(server.url)
        for url in (
            f"redis://127.0.0.1:{server.port}/0",
            f"redis://:{server.password}@127.0.0.1:{server.port}/0",
            f"redis://{USER}:wrong@127.0.0.1:{server.port}/0",
        ):
            with redis.Redis.from_url(url) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
        with redis.Redis.from_url(server.url) as client:
            assert client.info("memory")["maxmemory_policy"] == "noeviction"
            assert refused(client, ["FLUSHALL"])
            assert refused(client, ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()  # type: ignore[union-attr]
        assert server.password.encode() not in arguments


def close(topology: Topology, password: str) -> str:
    """Let only the users of deploy/redis into these servers; return the service's URL."""
    users = deployed.acl("users.acl", "replicas.acl")
    closed = users.pop("default")
    for server in topology.servers:
        with redis.Redis.from_url(server.url) as admin:
            for user, rules in users.items():
                let_in(admin, user, rules, password)
            admin.config_set("masteruser", "replica")
            admin.config_set("masterauth", password)
            # Open connections reconnect as one of these users.
            for kind in ("replica", "normal"):
                admin.client_kill_filter(_type=kind, skipme=True)
            let_in(admin, "default", closed, password)
    return as_user(topology.url)


def test_the_users_work_in_a_cluster(tmp_path: Path) -> None:
    with topologies.cluster(tmp_path) as topology:
        url = close(topology, topology.servers[0].password)
        for _ in range(5):  # owners on different masters
            use_every_operation(url, topology.shards)


def test_the_users_work_under_sentinel_and_through_a_failover(tmp_path: Path) -> None:
    """Guard: replicas.acl. Without its users a replica copies nothing, and is not promoted."""
    with topologies.sentinel(tmp_path) as topology:
        master, replica = topology.servers
        password = master.password
        for port in re.findall(r"127\.0\.0\.1:(\d+)", topology.url):
            with redis.Redis("127.0.0.1", int(port)) as watcher:
                watcher.sentinel_set("tokens", "auth-user", "sentinel")
                watcher.sentinel_set("tokens", "auth-pass", password)
        url = close(topology, password)
        use_every_operation(url)
        for server in topology.servers:
            with redis.Redis.from_url(server.url) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
        with redis.Redis.from_url(as_user(replica.url)) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
            master.kill()
        until(lambda: has_a_master(url), seconds=90)
        use_every_operation(url)


def has_a_master(url: str) -> bool:
    with contextlib.suppress(StoreUnavailable):
        return bool(connect(url, connect_ms=2000, read_ms=5000, connections=1).info())
    return False

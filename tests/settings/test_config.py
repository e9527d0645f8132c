"""Settings: their sources, and the values that are refused before anything starts."""

from __future__ import annotations

import dataclasses
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from config import Config, ConfigError
from settings.addresses import redis_servers
from settings.fields import SAMPLE_SECRET_KEY
from tests.settings.values import BAD, OTHER_KEYS, READ, SECRET_KEY
from tests.stage.paths import ROOT


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of the machine out of the tests."""
    for name in READ:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_an_audit_trail_in_a_file_needs_its_path() -> None:
    """Guard: ``in_proportion`` in config.py."""
    with pytest.raises(ConfigError, match="audit_path: is missing, and audit_log is file"):
        Config.from_mapping({"secret_key": SECRET_KEY, "audit_log": "file"})


def test_the_table_above_names_every_setting() -> None:
    assert set(READ) == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("spell", [str.lower, str.upper])
@pytest.mark.parametrize("name", READ)
def test_a_setting_is_read_from_the_environment_in_either_case(
    name: str, spell: Any, monkeypatch: pytest.MonkeyPatch, env_file: Path
) -> None:
    monkeypatch.setenv("secret_key", SECRET_KEY)
    monkeypatch.setenv(spell(name) if name != "language" else name, READ[name][0])
    assert getattr(Config.from_env(env_file), name) == READ[name][1]


@pytest.mark.parametrize("spell", [str.lower, str.upper])
def test_every_setting_is_read_from_dotenv_in_either_case(spell: Any, env_file: Path) -> None:
    lines = (f"{spell(name)}='{value}'\n" for name, (value, _) in READ.items())
    env_file.write_text("".join(lines))
    config = Config.from_env(env_file)
    assert dataclasses.asdict(config) == {name: value for name, (_, value) in READ.items()}


@pytest.mark.parametrize(("in_file", "outside"), [("db_host", "DB_HOST"), ("DB_HOST", "db_host")])
def test_the_environment_wins_over_dotenv_in_either_case(
    in_file: str, outside: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text(f"secret_key={SECRET_KEY}\n{in_file}=from-the-file\n")
    monkeypatch.setenv(outside, "from-the-environment")
    assert Config.from_env(env_file).db_host == "from-the-environment"


def test_a_dollar_in_dotenv_is_a_dollar(env_file: Path) -> None:
    """Red without ``interpolate=False``: a part of a password would be lost."""
    env_file.write_text(f"secret_key={SECRET_KEY}\ndb_password=pa${{HOME}}ss\n")
    assert Config.from_env(env_file).db_password == "pa${HOME}ss"


def test_an_empty_setting_counts_as_not_given(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose passes ``${database_url:-}`` on as an empty text."""
    env_file.write_text(f"secret_key={SECRET_KEY}\n")
    monkeypatch.setenv("DATABASE_URL", "")
    assert Config.from_env(env_file).database_url is None


def test_the_defaults_are_those_of_the_seed() -> None:
    config = Config.from_mapping({"secret_key": SECRET_KEY})
    assert (config.app_name, config.access_token_expire_minutes) == ("Token Service API", 15)
    assert config.onetime_token_expire_seconds == 10
    assert config.redis_address == "redis://localhost:6379/0"
    assert config.sqlalchemy_url.render_as_string(hide_password=False) == (
        "postgresql+psycopg2://postgres:postgres@localhost:5432/token_service"
    )


@pytest.mark.parametrize(("name", "value"), BAD.items(), ids=BAD)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"secret_key": SECRET_KEY, name: value})
    text = str(caught.value)
    assert f"  {name}: " in text
    assert value not in text
    assert SECRET_KEY not in text


def test_all_wrong_settings_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(BAD)
    for name in ("secret_key", *BAD):
        assert f"  {name}: " in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        SAMPLE_SECRET_KEY,
        "changeme",
        secrets.token_urlsafe(48)[:31],
        "",
    ],
    ids=["the seed's sample", "a default", "31 bytes", "empty"],
)
def test_a_weak_secret_key_is_refused(
    key: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14, S24. Red without ``strong_key``; the sample is refused by value, not only by length."""
    monkeypatch.setenv("SECRET_KEY", key)
    with pytest.raises(ConfigError, match="secret_key"):
        Config.from_env(env_file)


def test_the_length_of_a_secret_key_is_counted_in_bytes() -> None:
    assert Config.from_mapping({"secret_key": "é" * 16}).secret_key == "é" * 16


@pytest.mark.parametrize(
    "key", [SAMPLE_SECRET_KEY, "changeme", SECRET_KEY[:31]], ids=["sample", "default", "31 bytes"]
)
def test_a_weak_fallback_is_refused(key: str) -> None:
    """Each verifies as the secret key does, so one that is weak lets anybody sign."""
    given = {"secret_key": SECRET_KEY, "secret_key_fallbacks": f"{OTHER_KEYS[0]},{key}"}
    with pytest.raises(ConfigError, match="secret_key_fallbacks: has a key that is") as caught:
        Config.from_mapping(given)
    assert not any(each in str(caught.value) for each in (key, *OTHER_KEYS))


def test_fallbacks_may_come_from_a_file(env_file: Path) -> None:
    file = env_file.with_name("fallbacks")
    file.write_text(f"{OTHER_KEYS[0]},\n{OTHER_KEYS[1]}\n")
    env_file.write_text(f"secret_key={SECRET_KEY}\nsecret_key_fallbacks_file={file}\n")
    assert Config.from_env(env_file).secret_key_fallbacks == OTHER_KEYS


def test_the_sample_key_is_refused_by_value() -> None:
    with pytest.raises(ConfigError, match="sample value"):
        Config.from_mapping({"secret_key": SAMPLE_SECRET_KEY})


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_no_secret_is_printed_with_the_config(show: Any) -> None:
    config = Config.from_mapping({name: value for name, (value, _) in READ.items()})
    for name in ("secret_key", "db_password", "database_url", "metrics_token"):
        assert READ[name][0] not in show(config)
    assert not any(key in show(config) for key in OTHER_KEYS)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_postgres_url_names_its_driver(scheme: str) -> None:
    """A bare postgresql:// means psycopg 3 since SQLAlchemy 2.1."""
    config = Config(secret_key=SECRET_KEY, database_url=f"{scheme}://u:p%40w@h:1/d?sslmode=require")
    assert config.sqlalchemy_url.render_as_string(hide_password=False) == (
        "postgresql+psycopg2://u:p%40w@h:1/d?sslmode=require"
    )


def test_a_password_in_parts_needs_no_quoting() -> None:
    config = Config(secret_key=SECRET_KEY, db_password="p@ss/w:rd")
    assert config.sqlalchemy_url.password == "p@ss/w:rd"
    assert "***" in str(config.sqlalchemy_url)


def test_the_urls_win_over_the_parts() -> None:
    config = Config(
        secret_key=SECRET_KEY,
        database_url="postgresql://u:p@one/d",
        db_host="two",
        redis_url="redis://one:1/1",
        redis_host="two",
    )
    assert config.sqlalchemy_url.host == "one"
    assert config.redis_address == "redis://one:1/1"


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "*",
            "https://*.example",
            "https://a.example/",
            "https://a.example/x",
            "a.example",
            "null",
        ),
        *(
            "htps://a.example",
            "ftp://a.example",
            "file://",
            "data:text",
            "tauri://*",
            "://localhost",
        ),
        *("capacitor://localhost/", "http://[::1", "http://::1:3000", "http://[::1]:", "http://[]"),
        *("http://[::zz]:3000", "http://[0:0:0:0:0:0:0:1]", "http://[::1%eth0]", "https://[::1].b"),
        *(
            "tauri://[::1]",
            "https://u@a.example",
            "https://a.example:٣٠٠٠",
            "https://a|b",
            "x-extension://",
        ),
    ],
)
def test_only_exact_origins_are_accepted(origin: str) -> None:
    """S49. Red without the pattern in ``Origins``: Flask-CORS reads some as expressions."""
    with pytest.raises(ConfigError, match="cors_origins"):
        Config.from_mapping({"secret_key": SECRET_KEY, "cors_origins": origin})


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://a.example",
            "HTTPS://A.Example:8443",
            "http://192.0.2.1",
            "http://localhost:3000",
        ),
        *(
            "capacitor://localhost",
            "tauri://localhost",
            "ionic://localhost",
            "my-app://localhost:1",
        ),
        *("http://[::1]:3000", "https://[2001:db8::7]", "http://[2001:DB8::7]:1"),
        *(
            "chrome-extension://abcdefghijklmnop",
            "moz-extension://0b2d7e9e-1c3a-4c55-8f62-0a1b2c3d4e5f",
        ),
    ],
)
def test_an_origin_of_any_page_is_accepted(origin: str) -> None:
    config = Config.from_mapping({"secret_key": SECRET_KEY, "cors_origins": f"{origin}, {origin}"})
    assert config.cors_origins == (origin, origin)


def start(given: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Import ``wsgi`` as gunicorn does, with these settings and no other."""
    return subprocess.run(
        [sys.executable, "-c", "import wsgi"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_service_refuses_to_start_and_names_each_wrong_setting(tmp_path: Path) -> None:
    """S14: a non-zero exit, one line a setting, no traceback, no value."""
    given = {**BAD, "SECRET_KEY": SAMPLE_SECRET_KEY}
    done = start(given, tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for name, value in {**BAD, "secret_key": SAMPLE_SECRET_KEY}.items():
        assert f"  {name}: " in done.stderr
        assert value not in done.stderr


def test_the_service_starts_with_no_server_to_connect_to(tmp_path: Path) -> None:
    """Nothing connects on import: the first request does."""
    nowhere = {"secret_key": SECRET_KEY, "db_port": "1", "redis_port": "1"}
    assert start(nowhere, tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "postgresql://u:hunter2@h:notaport/d"),
        ("redis_url", "redis://:hunter2@h:notaport/0"),
    ],
)
def test_an_unreadable_address_is_refused_like_any_wrong_setting(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Config.from_mapping({"secret_key": SECRET_KEY, name: value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "redis+sentinel://sentinel/tokens"),
        ("redis_url", "redis+sentinel://sentinel:26379"),
        ("redis_url", "redis+sentinel://one:26379,two/tokens"),
        ("redis_url", "redis+sentinel://sentinel:26379/tokens/first"),
        ("redis_url", "redis+cluster://node"),
        ("redis_url", "redis+cluster://"),
        ("redis_url", "redis+cluster://node:6379?no_such_option=1"),
        ("redis_url", "rediss+sentinel://one:26379/tokens?ssl_cert_reqs=perhaps"),
        ("redis_url", "redis://cache:6379/0?socket_timeout=soon"),
        ("redis_url", "redis://cache:6379/0?no_such_option=1"),
        ("redis_url", "rediss://cache:6379/0?ssl_cert_reqs=perhaps"),
        ("database_url", "postgresql://u:p@h/d?no_such_option=1"),
        ("database_url", "postgresql://u:p%zz@h/d"),
    ],
)
def test_an_address_that_no_client_accepts_is_refused(name: str, value: str) -> None:
    """Red without the clients' own parsers in config.py: every request would return 500."""
    with pytest.raises(ConfigError, match=name):
        Config.from_mapping({"secret_key": SECRET_KEY, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "redis+sentinel://:p@one:26379,two:26379/tokens/1"),
        ("redis_url", "redis+cluster://u:p@one:6379,[::1]:6379"),
        ("redis_url", "rediss+cluster://u:p@one:6379?ssl_ca_certs=/etc/ca.pem"),
        (
            "redis_url",
            "rediss+sentinel://:p@one:26379/tokens?sentinel_username=u&sentinel_password=p",
        ),
        ("redis_url", "unix:///run/redis.sock?db=1"),
        ("redis_url", "rediss://u:p@cache:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required"),
        ("database_url", "postgresql+psycopg2://u:p@one:1,two/d?sslmode=verify-full"),
        ("database_url", "postgresql:///d?host=/run/postgresql"),
    ],
)
def test_an_address_that_a_client_accepts_is_accepted(name: str, value: str) -> None:
    config = Config.from_mapping({"secret_key": SECRET_KEY, name: value})
    assert getattr(config, name) == value


@pytest.mark.parametrize(
    "words",
    ["0 per minute", "5 per minute; 10 per hour", "5 per minute, 1 per second", "1/9999 years"],
)
def test_a_rate_that_cannot_be_kept_is_refused(words: str) -> None:
    """The limiter would take only the first of a list, and Redis counts no such time."""
    with pytest.raises(ConfigError, match="rate_limit_login"):
        Config.from_mapping({"secret_key": SECRET_KEY, "rate_limit_login": words})


def test_a_wrong_proportion_is_reported_with_the_others() -> None:
    """Red without ``skip_on_field_errors=False``."""
    given = {"receipt_seconds": "60", "idempotency_window_seconds": "90", "web_threads": "none"}
    given |= {"onetime_token_expire_seconds": "100", "onetime_token_max_seconds": "50"}
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(given)
    named = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert named == [
        "idempotency_window_seconds",
        "onetime_token_expire_seconds",
        "secret_key",
        "web_threads",
    ]


def test_a_default_life_beyond_the_longest_is_refused() -> None:
    given = {"onetime_token_expire_seconds": "100", "onetime_token_max_seconds": "50"}
    with pytest.raises(ConfigError, match="onetime_token_expire_seconds"):
        Config.from_mapping({"secret_key": SECRET_KEY, **given})


def test_several_postgres_hosts_are_accepted() -> None:
    """Written as libpq documents them; SQLAlchemy wants them in another place."""
    address = "postgresql://u:p@one,two:2,[::1]:3/d?sslmode=verify-full"
    url = Config(secret_key=SECRET_KEY, database_url=address).sqlalchemy_url
    (_, options) = PGDialect_psycopg2().create_connect_args(url)
    assert options == {
        **{"user": "u", "password": "p", "dbname": "d", "sslmode": "verify-full"},
        **{"host": "one,two,::1", "port": "5432,2,3", "target_session_attrs": "read-write"},
    }


def test_options_of_an_address_without_a_database_are_kept() -> None:
    address = "postgresql://u:p@one,two?sslmode=verify-full"
    url = Config(secret_key=SECRET_KEY, database_url=address).sqlalchemy_url
    assert url.query["host"] == "one,two"
    assert url.query["sslmode"] == "verify-full"
    assert not url.database


@pytest.mark.parametrize("user", [None, "service", "a:b@c/d"])
@pytest.mark.parametrize("password", [None, "p", "p:w@x/y?z#%20 {}"])
def test_the_login_at_redis_is_passed_on_as_it_is(user: str | None, password: str | None) -> None:
    config = Config(secret_key=SECRET_KEY, redis_user=user, redis_password=password)
    options = redis_servers(config.redis_address)["options"]
    assert (options.get("username"), options.get("password")) == (user, password)
    assert (options["host"], options["port"], options["db"]) == ("localhost", 6379, 0)


@pytest.mark.parametrize("url", ["https://a.example/api", "http://localhost:8000", "http://[::1]"])
def test_a_public_url_may_have_a_path_and_a_port(url: str) -> None:
    assert Config.from_mapping({"secret_key": SECRET_KEY, "public_url": url}).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "a.example",
        "https://a.example/",
        "https://a.example/?q",
        "https://a.example#f",
        "https://u:p@a.example",
        "ftp://a.example",
        "https://a.example\n",
        "https://a.example/..\\x",
    ],
)
def test_an_address_to_which_no_path_can_be_appended_is_refused(url: str) -> None:
    """Guard: ``fields.base_url``."""
    with pytest.raises(ConfigError, match="public_url"):
        Config.from_mapping({"secret_key": SECRET_KEY, "public_url": url})

"""``make run``: the whole service on this machine, with a demo account, until Ctrl-C.

``python -m dev flask users list`` (``make flask``) runs a command on that service.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from dev.demo import handover
from dev.demo.handover import Handover
from dev.demo.keys import current_keys
from dev.postgres import Postgres
from dev.redis import Redis
from dev.server import CannotStart, Server, is_free, kept_secret, private, tail
from settings.environment import ConfigError, read

DIRECTORY = Path(".local")
#: Where the running service leaves, for commands, the settings that they share with it.
SETTINGS = DIRECTORY / "settings.json"
SHARED = ("database_url", "redis_url", "secret_key")
#: Variables for other programs: they would choose the application, or the server of a database.
FOREIGN = ("FLASK_", "GUNICORN_", "PG")
DEMO = "demo@example.com"
#: The service with the page of ``dev/demo``.
WITH_PAGE = "dev.demo.app:app"
WELCOME = """\
See it work:   {url}/demo
Token service: {url}
Documentation: {url}/docs
Demo login:    {demo}  {password}

Log in, create a token, consume it:

  field() {{ python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }}
  json='Content-Type: application/json'
  jwt=$(curl -s {url}/auth/login -H "$json" \\
    -d '{{"correo": "{demo}", "password": "{password}"}}' | field access_token)
  token=$(curl -s {url}/token/create -H "Authorization: Bearer $jwt" -H "$json" \\
    -d '{{"purpose": "chat", "expires_in": 60}}' | field token)
  curl -s {url}/token/consume -H "Authorization: Bearer $jwt" -H "$json" \\
    -d "{{\\"token\\": \\"$token\\", \\"purpose\\": \\"chat\\",
      \\"issued_by\\": [\\"{demo}\\"]}}"; echo

The last line works once. Logs: {directory}/*.log. Ctrl-C stops everything."""


class Service(Server):
    """This service under gunicorn.

    :ivar application: the module and the name of what gunicorn loads
    """

    name = "service"
    stop_signal = signal.SIGTERM  # finishes the requests in flight
    stop_seconds = 40.0

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory, port)
        self.environment: dict[str, str] = {}
        self.application = "wsgi:app"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}", self.application]

    def options(self) -> dict[str, Any]:
        return {"env": self.environment}

    def responds(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection):
                for path in ("/readyz/postgres", "/readyz/redis"):
                    connection.request("GET", path)
                    response = connection.getresponse()
                    self.reason = f"{path} returns {response.read().decode(errors='replace')}\n"
                    if response.status != http.HTTPStatus.OK:
                        return False
                return True
        return False


def main() -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP, or until gunicorn ends.

    :returns: the exit code: 0 after a signal, gunicorn's if it ended by itself, 1 if the
        service cannot start
    """
    try:
        if sys.argv[1:2] == ["flask"]:
            run_command(sys.argv[2:])
        port = chosen_port(*sys.argv[1:2])
        service = Service(DIRECTORY, port)
        service.application = WITH_PAGE
        # A flag, checked between the steps: an exception from a handler could come when a server
        # runs that nothing stops yet.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: setattr(service, "given_up", True))
        service.claim(seconds=1)
        if not is_free(port):
            other = 9000 if port != 9000 else 9001
            raise CannotStart(f"Port {port} is taken. Choose another: make run PORT={other}")
        return serve(service)
    except (CannotStart, ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def serve(service: Service) -> int:
    given = chosen(*SHARED, "drain_seconds")
    with contextlib.ExitStack() as running:
        own, redis = {}, None
        if "database_url" not in given:
            own["database_url"] = running.enter_context(Postgres(DIRECTORY)).url
        if "redis_url" not in given:
            redis = running.enter_context(Redis(DIRECTORY))
            own["redis_url"] = redis.url
        if "secret_key" not in given:
            own["secret_key"] = kept_secret(DIRECTORY / "secret_key", 48)
        running.callback(SETTINGS.unlink, missing_ok=True)
        SETTINGS.unlink(missing_ok=True)
        with open(SETTINGS, "x", opener=private) as file:
            json.dump({name: (given | own)[name] for name in SHARED}, file)
        if "drain_seconds" not in given:
            # No balancer stands in front of it that must notice its end.
            own["drain_seconds"] = "0"
        service.environment = environment(own)
        password = kept_secret(DIRECTORY / "demo_password", 12)
        seed = ["users", "create", "--nombre", "Demo", DEMO, "--password-stdin", "--if-missing"]
        for step, text in ((["db", "upgrade"], ""), (seed, password)):
            if not service.given_up:
                flask(step, text, service.environment)
        if service.given_up:
            return 0
        handover.RESTART.unlink(missing_ok=True)
        with service:
            if not service.given_up:
                keys = demo_keys(service.port, password)
                Handover(DEMO, keys, owns_redis=redis is not None).leave()
                url = f"http://127.0.0.1:{service.port}"
                words = {"url": url, "demo": DEMO, "password": password, "directory": DIRECTORY}
                print(WELCOME.format(**words), flush=True)
            return attend(service, redis)


def chosen(*names: str) -> dict[str, str]:
    """The settings that the environment or ``.env`` gives.

    :raises ConfigError: one of them is wrong
    """
    given, mistakes = read(names)
    for name, [mistake] in mistakes.items():
        raise ConfigError(f"{name} {mistake}.")
    return given


def environment(own: dict[str, str]) -> dict[str, str]:
    """The environment of the service and of its commands.

    :param own: settings that nobody has given
    """
    foreign = FOREIGN if "database_url" in own else FOREIGN[:-1]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and name.lower() not in own
    }
    return kept | own | {"FLASK_SKIP_DOTENV": "1"}


def run_command(words: list[str]) -> NoReturn:
    """Become a ``flask`` command with the settings of the running service.

    :raises CannotStart: there is none, and not all settings are given
    :raises ConfigError: a setting is another one here
    """
    given = chosen(*SHARED)
    shared = json.loads(SETTINGS.read_text()) if is_running() else {}
    if missing := set(SHARED) - set(given | shared):
        names = ", ".join(sorted(missing))
        raise CannotStart(f"make run does not run in this folder, and these are not set: {names}")
    for name in shared.keys() & given.keys():
        if given[name] != shared[name]:
            raise ConfigError(f"{name} is not that of the running service.")
    own = {name: value for name, value in shared.items() if name not in given}
    command = [sys.executable, "-m", "flask", *words]
    os.execve(sys.executable, command, environment(own))  # noqa: S606 - no shell is the point


def is_running() -> bool:
    """Whether ``make run``, which holds the lock of this log, is there and has its servers."""
    try:
        with (DIRECTORY / f"{Service.name}.log").open() as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return SETTINGS.exists()
    return False


def flask(words: list[str], text: str, environment: dict[str, str]) -> None:
    """Run a ``flask`` command.

    :raises CannotStart: with the output of the command
    """
    done = subprocess.run(
        [sys.executable, "-m", "flask", *words],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C lets it finish
        check=False,
    )
    if done.returncode:
        raise CannotStart(f"flask {' '.join(words)} failed.\n{done.stdout}")


def demo_keys(port: int, password: str) -> Mapping[str, str]:
    """The keys of the page; none where the demo account gets none, which the terminal then says."""
    try:
        return current_keys(port, handover.read().keys, DEMO, password)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return {}


def attend(service: Service, redis: Redis | None) -> int:
    """Wait for the end, and restart Redis where the page asks for it.

    :param redis: the Redis that may be restarted
    :returns: the exit code
    :raises CannotStart: Redis does not start again
    """
    assert service.process
    while service.process.poll() is None:
        if service.given_up:
            return 0
        if redis and handover.RESTART.exists():
            redis.stop()
            redis.start()
            handover.RESTART.unlink()
        time.sleep(0.1)
    code = service.process.returncode
    print(
        f"The service ended by itself, with code {code}.\n{tail(service.log)}",
        file=sys.stderr,
    )
    return code if code >= 0 else 128 - code


def chosen_port(argument: str | None = None) -> int:
    """The port of the command line or of PORT, else 8000.

    :raises CannotStart: when it is not a port
    """
    words = argument or os.environ.get("PORT") or "8000"
    if words.isascii() and words.isdigit() and 0 < int(words) < 65_536:
        return int(words)
    raise CannotStart(f"PORT={words} is not a port from 1 to 65535.")


if __name__ == "__main__":
    sys.exit(main())

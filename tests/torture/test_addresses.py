"""Store addresses with errors that appear only on first use: no password is reported.

Refusals at the start are in test_bad_settings.py.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys

from tests.stage.paths import ROOT
from tests.torture import ledger
from tests.torture.canaries import Canaries

#: Valid addresses without a server.
RIGHT = {
    "secret_key": secrets.token_urlsafe(48),
    "database_url": "postgresql://ana@127.0.0.1:1/x",
    "redis_url": "redis://127.0.0.1:1/0",
}
#: Each with a password that is not parsed as one.
MISTAKEN = {
    "database_url": [
        "postgresql://ana:{0}/x@127.0.0.1:1/x",
        "postgresql://ana:{0}#x@127.0.0.1:1/x",
        "postgresql://ana:{0}@127.0.0.1:1/x?nothing={0}",
        "postgresql://ana:{0}@127.0.0.1:1,127.0.0.1:2/x",
    ],
    "redis_url": [
        "redis://:{0}/x@127.0.0.1:1/0",
        "redis://:{0}@127.0.0.1:1/zero",
        "redis://:{0}@127.0.0.1:1/0?nothing={0}",
        "redis+sentinel://:{0}@127.0.0.1:1",
        "redis+cluster://:{0}@127.0.0.1:1",
    ],
}
ASK_FOR_BOTH = """
import wsgi
client = wsgi.app.test_client()
print(client.get("/readyz").get_data())
print(client.post("/auth/login", json={"correo": "a@example.com", "password": "x"}).get_data())
"""


def output_of(mistake: dict[str, str]) -> bytes:
    """The output of a service with a wrong address, after a call of each store."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_FOR_BOTH],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **RIGHT, **mistake},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_wrong_address_is_reported_without_its_password() -> None:
    """Guards: ``Config.from_mapping``, and each client's parser of its own address."""
    canaries, outputs = Canaries(), []
    for name, values in MISTAKEN.items():
        for value in random.sample(values, ledger.trials(len(values))):
            secret = canaries.add(f"the password of {value}", secrets.token_hex(16))
            outputs.append(output_of({name: value.format(secret)}))
    hits = [
        hit for output in outputs for hit in canaries.found_in("the output of the service", output)
    ]
    ledger.record(
        "An error in an address is reported without the password in it",
        n=len(outputs),
        failures=len(hits),
    )
    assert all(outputs)
    assert not hits, hits

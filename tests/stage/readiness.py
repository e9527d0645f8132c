"""The readiness of an app."""

from __future__ import annotations

import time

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tokenservice.ops import probes


def readiness(client: FlaskClient) -> TestResponse:
    """What /readyz says once it has looked again."""
    time.sleep(probes.LOOK_AGAIN_SECONDS)
    return client.get("/readyz")

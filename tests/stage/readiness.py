"""The readiness of an app."""

from __future__ import annotations

import time

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tokenservice.ops import probes


def readiness(client: FlaskClient) -> TestResponse:
    """The response of /readyz after a new look at its stores."""
    time.sleep(probes.LOOK_AGAIN_SECONDS)
    return client.get("/readyz")

"""The readiness of an app."""

from __future__ import annotations

import time

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tokenservice.ops import probes


def readiness(client: FlaskClient, part: str = "") -> TestResponse:
    """The response of /readyz, or of one ``part``, after a new look at its stores."""
    time.sleep(probes.LOOK_AGAIN_SECONDS)
    return client.get(f"/readyz/{part}" if part else "/readyz")

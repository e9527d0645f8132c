"""Security headers, CORS, and every content policy."""

from __future__ import annotations

import re

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from config import Config
from tokenservice.extensions import cors
from tokenservice.web.responses import Headers

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
#: The content policy of a page, in place of the one above.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
#: Response headers that a script of another origin may read.
EXPOSED_HEADERS = ["X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After"]
#: In every response of a service that accepts the fixed tokens of the sandbox.
SANDBOX = "X-Sandbox"


def secure(fields: Headers) -> None:
    """Add the security headers that are not among ``fields``."""
    # In one pass: a look for each would read all fields again.
    present = {name.title() for name, _ in fields}
    fields += [field for field in SECURITY_HEADERS.items() if field[0] not in present]


def exactly(origin: str) -> re.Pattern[str]:
    """A pattern that matches ``origin`` alone, in either case.

    Flask-CORS would take ``http://[::1]:3000`` for a regular expression.
    """
    return re.compile(re.escape(origin) + r"\Z", re.IGNORECASE | re.ASCII)


def allow_preflight() -> Response | None:
    """Respond to the preflight of a path that does not exist, so that a page can read its 404."""
    if request.method != "OPTIONS" or not isinstance(request.routing_exception, NotFound):
        return None
    return Response() if "Access-Control-Request-Method" in request.headers else None


def init_app(app: Flask, config: Config) -> None:
    if config.cors_origins:
        app.before_request(allow_preflight)
        cors.init_app(
            app,
            origins=[exactly(origin) for origin in config.cors_origins],
            expose_headers=EXPOSED_HEADERS + [SANDBOX] * config.sandbox,
            max_age=600,
            always_send=False,
            vary_header=False,
        )

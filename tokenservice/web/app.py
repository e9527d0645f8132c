"""The Flask and Response classes of the service, and what it believes of proxies."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response
from werkzeug.datastructures import Headers
from werkzeug.middleware.proxy_fix import ProxyFix

from config import Config
from tokenservice.telemetry import logs
from tokenservice.web.strictjson import StrictJSON


class ServiceResponse(Response):
    """Skip Werkzeug's header fix-up (a full copy per response) where it changes nothing."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        if self.status_code in (200, 201):
            return self.headers
        return super().get_wsgi_headers(environ)


class Service(Flask):
    """Flask with the response class and the JSON provider of the service."""

    response_class = ServiceResponse
    json_provider_class = StrictJSON

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function as it is, and adapt a coroutine function as Flask does."""
        # Flask and its extensions ask sixteen times a request. The flag costs 0.1 us each time,
        # inspect.iscoroutinefunction 1 us.
        code = getattr(func, "__code__", None)
        if code is not None and not code.co_flags & inspect.CO_COROUTINE:
            return func
        return super().ensure_sync(func)


#: A prefix of paths becomes part of links, so a client whose proxy passes it on could write any.
PREFIX = re.compile(r"(/[A-Za-z0-9_~][A-Za-z0-9._~-]*)*/?")


@functools.cache
def report_unreadable(header: str, trusted_proxies: int) -> None:
    """Log once that a header of the trusted proxies is not what it should be."""
    logs.log.warning("proxy.header_unreadable", header=header, trusted_proxies=trusted_proxies)


def forwarded(words: str, trusted_proxies: int) -> str:
    """``X-Forwarded-For`` without quotes; fewer entries than trusted proxies are reported."""
    words = words.replace('"', "")
    if words.count(",") + 1 < trusted_proxies:
        # The client counts as the last proxy.
        report_unreadable("X-Forwarded-For", trusted_proxies)
    return words


class Proxies(ProxyFix):
    """Read the client address from the last ``X-Forwarded-For`` entry, which the proxy wrote.

    Werkzeug reads the header as a list of RFC 9110, where an unclosed quote of the client makes the
    rest unreadable: the client would pass for the proxy. Addresses have no quotes.

    ``X-Forwarded-Prefix`` is the part of the path that the proxy has taken away.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if words := environ.get("HTTP_X_FORWARDED_FOR"):
            environ["HTTP_X_FORWARDED_FOR"] = forwarded(words, self.x_for)
        if prefixes := environ.pop("HTTP_X_FORWARDED_PREFIX", ""):
            prefix = prefixes.rpartition(",")[2].strip()
            if PREFIX.fullmatch(prefix):
                environ["HTTP_X_FORWARDED_PREFIX"] = prefix
            else:
                report_unreadable("X-Forwarded-Prefix", self.x_for)
        return super().__call__(environ, start_response)


def init_app(app: Flask, config: Config) -> None:
    if hops := config.trusted_proxies:
        app.wsgi_app = Proxies(app.wsgi_app, x_for=hops, x_proto=hops, x_prefix=1)  # type: ignore[method-assign]

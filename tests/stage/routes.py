"""The routes of an app."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

from flask import Flask

from tests.stage.catalogue import BODILESS, FOR_PROXIES, PUBLIC
from tokenservice.onetime.format import ID


def body_routes(app: Flask) -> list[str]:
    """Every route that reads a body of the service's own kind."""
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or set())
        and not rule.arguments
        and rule.endpoint not in BODILESS
        and not hasattr(app.view_functions[rule.endpoint], "is_foreign")
    )


def methods(app: Flask, path: str) -> set[str]:
    """The methods that a path takes."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule == path]
    return {method for rule in rules for method in rule.methods or ()}


def protected_routes(app: Flask) -> Iterator[tuple[str, str]]:
    """(method, path) of every route that needs a caller, but for those of proxies."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in PUBLIC | FOR_PROXIES:
            # The only argument that a guarded route takes is an id: of a token, a key or a session.
            path = re.sub("<(token|key)_id:[^>]*>", "0" * ID, rule.rule)
            path = re.sub("<uuid:[^>]*>", str(uuid.UUID(int=0)), path)
            assert "<" not in path
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                yield method, path

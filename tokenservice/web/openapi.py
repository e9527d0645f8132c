"""The OpenAPI document: what its views declare, and what follows from their marks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask
from flask_smorest import Api

from tokenservice.extensions import add, part
from tokenservice.web import texts
from tokenservice.web.problems import MEDIA_TYPE, TYPE_PREFIX
from tokenservice.web.schemas import ALIAS, ProblemResponse

BODY_REFUSALS = (
    "validation_failed",
    "not_json",
    "payload_too_large",
    "unsupported_media_type",
)
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "Repeat a call after a lost response with the same key, and get that response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


class Document:
    """The document of an app, as the text that is served."""

    def __init__(self, text: str) -> None:
        self.json = text

    def below(self, prefix: str) -> str:
        """The document of a service whose paths begin with ``prefix``."""
        if not prefix:
            return self.json

        def move(member: dict[str, Any]) -> dict[str, Any]:
            paths = [(name, str(member.get(name))) for name in ("tokenUrl", "type", "example")]
            return member | {name: prefix + path for name, path in paths if path.startswith("/")}

        written = json.loads(self.json, object_hook=move)
        return json.dumps({"servers": [{"url": prefix}], **written}, ensure_ascii=False)


document = part(Document)


def options(title: str) -> dict[str, Any]:
    """The parts of the document beside its operations."""
    return {
        "title": title,
        "version": "1",
        "openapi_version": "3.1.0",
        "info": {
            "description": "Short-lived tokens, each of them honoured at most once: create one, "
            "hand it over, and consume it. Log in with *Authorize* to try it here."
        },
    }


def problems(codes: Iterable[str]) -> dict[str, Any]:
    """Describe the problem responses of an operation, with an example of each."""
    responses: dict[str, Any] = {}
    for code in codes:
        message = texts.catalogue.problems[code]
        examples = responses.setdefault(str(message.status), {})
        examples[code] = {
            "summary": message.en.title,
            "value": {
                "type": TYPE_PREFIX + code,
                "title": message.en.title,
                "status": message.status,
                "detail": message.en.detail,
                "code": code,
                "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            },
        }
    return {
        status: {
            "description": " · ".join(example["summary"] for example in examples.values()),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": examples,
                }
            },
        }
        for status, examples in responses.items()
    }


def operations(app: Flask, written: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each operation of a written document, behind the view that serves it."""
    for rule in app.url_map.iter_rules():
        path = written["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in rule.methods or ():
            if operation := path.get(method.lower()):
                yield app.view_functions[rule.endpoint], operation


def complete(
    view: Callable[..., Any], operation: dict[str, Any], caller_refusals: Iterable[str]
) -> None:
    """Add what follows from a view's marks: its name, security, Idempotency-Key and problems."""
    query = [given for given in operation.get("parameters", []) if given["in"] == "query"]
    codes: list[str] = []
    if hasattr(view, "operation"):
        operation["operationId"] = view.operation
    if hasattr(view, "is_foreign"):
        codes.append("payload_too_large")
    elif "requestBody" in operation:
        codes += BODY_REFUSALS
    if query:
        codes.append("validation_failed")
    if hasattr(view, "limit"):
        codes.append("rate_limited")
    if not hasattr(view, "is_public"):
        operation["security"] = [{"bearer": []}]
        if hasattr(view, "scope"):
            operation["security"].append({"service_key": [view.scope]})
        codes += caller_refusals
    if hasattr(view, "is_repeatable"):
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    codes += getattr(view, "refusals", ())
    responses = operation["responses"]
    responses.pop("default")
    responses.pop("422", None)  # flask-smorest's own shape of error.
    responses |= problems([*codes, "internal_error"])
    for parameter in query:
        parameter["allowEmptyValue"] = True  # A parameter without a value is as none.
    if query:
        # A query can make an address longer than the service takes, see server/framing.py.
        responses["414"] = problems(["bad_request"])["400"]
        examples = responses["414"]["content"][MEDIA_TYPE]["examples"]
        examples["bad_request"]["value"]["status"] = 414


def offer_aliases(schema: dict[str, Any]) -> None:
    """Describe that a body has a field under one of its names, and never under both."""
    found = schema.get("properties", {}).items()
    aliases = {field[ALIAS]: alias for alias, field in found if ALIAS in field}
    if aliases:
        schema["required"] = [name for name in schema["required"] if name not in aliases]
        schema["allOf"] = [
            {"oneOf": [{"required": [name]}, {"required": [alias]}]}
            for name, alias in aliases.items()
        ]


def init_app(app: Flask, api: Api, caller_refusals: Iterable[str]) -> None:
    """Write the document, after every view is registered.

    :param caller_refusals: the problem codes of any view that is not public
    """
    api.spec.components.schema("Problem", schema=ProblemResponse)
    written: dict[str, Any] = api.spec.to_dict()
    del written["components"]["responses"]
    for unused in ("Error", "PaginationMetadata"):
        del written["components"]["schemas"][unused]
    for schema in written["components"]["schemas"].values():
        offer_aliases(schema)
    with app.app_context():
        for view, operation in operations(app, written):
            complete(view, operation, caller_refusals)
    add(app, Document(json.dumps(written, ensure_ascii=False)))

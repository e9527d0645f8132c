"""The OpenAPI document: what its views declare, and what follows from their marks.

Its texts are English. In Spanish they are for the page of the documentation alone.
"""

from __future__ import annotations

import functools
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

#: The version of the contract: the first number changes with what breaks a client.
VERSION = "1.0.0"
REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
BODY_REFUSALS = ("validation_failed", "not_json", "unsupported_media_type")
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "Repeat a call after a lost response with the same key, and get that response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
#: What the service is for, in the order of its use. These calls come first, under a tag of theirs.
START = ("/auth/register", "/auth/login", "/token/create", "/token/consume")
START_TAG = {
    "name": "start",
    "description": "Start here: register, log in, create a token and consume it",
}
#: The headers of responses, by the name of their description.
HEADERS = {
    "X-Request-ID": {
        "description": "The id of the request, also in the log. A client may choose it.",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "Location": {
        "description": "The receipt of what the call created, relative to the path of the call.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "0042nQ7fK2mZ9xLr3T",
    },
    "RateLimit": {
        "description": "The limit that counts the call, the calls that are left (r), and the "
        "seconds until there are more (t); draft-ietf-httpapi-ratelimit-headers-11.",
        "schema": {"type": "string"},
        "example": '"create";r=59;t=60',
    },
    "RateLimit-Policy": {
        "description": "That limit: its calls (q) in so many seconds (w).",
        "schema": {"type": "string"},
        "example": '"create";q=60;w=60',
    },
    "Retry-After": {
        "description": "The seconds after which a repeat makes sense.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "The kind of credentials that the call takes (RFC 6750 section 3).",
        "schema": {"type": "string"},
        "example": "Bearer",
    },
    "X-Token-Code": {
        "description": "The code of the problem, for a proxy that reads no body.",
        "schema": {"type": "string"},
        "example": "token_already_used",
    },
    "Content-Language": {
        "description": "The language of the texts.",
        "schema": {"type": "string", "enum": [*texts.LANGUAGES]},
    },
}


class Document:
    """The document of an app, as the text that is served in each language."""

    def __init__(self, write: Callable[[texts.Language], str]) -> None:
        # At the first request for it: both take 15 ms, which each worker and command would pay.
        self.json = functools.cache(write)

    def below(self, prefix: str, language: texts.Language) -> str:
        """The document of a service whose paths begin with ``prefix``."""
        if not prefix:
            return self.json(language)

        def move(member: dict[str, Any]) -> dict[str, Any]:
            paths = [(name, str(member.get(name))) for name in ("tokenUrl", "type", "example")]
            return member | {name: prefix + path for name, path in paths if path.startswith("/")}

        written = json.loads(self.json(language), object_hook=move)
        return json.dumps({**written, "servers": [{"url": prefix}]}, ensure_ascii=False)


document = part(Document)


def options(title: str, url: str | None) -> dict[str, Any]:
    """The parts of the document beside its operations.

    A text of several parts is a list of them: each is translated, and a domain may add one.

    :param url: the address of the service, if it is known
    """
    return {
        "title": title,
        "version": VERSION,
        "openapi_version": "3.1.0",
        "servers": [{"url": url or "/"}],
        "info": {
            "description": [
                "Short-lived tokens, each of them honoured at most once: create one, "
                "hand it over, and consume it. Log in with *Authorize* to try it here."
            ],
            "license": {"name": "MIT", "identifier": "MIT"},
            "contact": {"name": ["The operator of ", title]},
        },
    }


def usual_status(code: str) -> int:
    return texts.catalogue.problems[code].status


def problems(
    codes: Iterable[str],
    language: texts.Language,
    status_of: Callable[[str], int] = usual_status,
) -> dict[str, Any]:
    """Describe the problem responses of an operation, with an example of each."""
    responses: dict[str, Any] = {}
    for code in codes:
        text, status = texts.catalogue.problems[code].text(language), status_of(code)
        examples = responses.setdefault(str(status), {})
        examples[code] = {
            "summary": text.title,
            "value": {
                "type": TYPE_PREFIX + code,
                "title": text.title,
                "status": status,
                "detail": text.detail,
                "code": code,
                "request_id": REQUEST_ID,
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


def drop_the_rest(app: Flask, written: dict[str, Any]) -> None:
    """Drop what is no operation: the pages for readers, and their files."""
    for _, name, operation in operations(app, written):
        if not name:
            operation.clear()
    for path, methods in [*written["paths"].items()]:
        if not all(methods.values()):
            del written["paths"][path]


def operations(app: Flask, written: dict[str, Any]) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Each operation of a written document, behind its view and its name, "" for a page."""
    for rule in app.url_map.iter_rules():
        path = written["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        methods = rule.methods or set()
        for method in methods:
            if operation := path.get(method.lower()):
                view = app.view_functions[rule.endpoint]
                name = getattr(view, "operation", "")
                # Of two methods of one call, the second is named after itself too.
                is_second = name and method == "POST" and "GET" in methods
                yield view, f"{name}ByPost" if is_second else name, operation


def complete(
    view: Callable[..., Any],
    operation: dict[str, Any],
    caller_refusals: Iterable[str],
    language: texts.Language,
) -> None:
    """Add what follows from a view's marks: its security, Idempotency-Key and problems."""
    query = [given for given in operation.get("parameters", []) if given["in"] == "query"]
    codes = ["payload_too_large"]  # Whether it takes a body or not.
    if "requestBody" in operation and not hasattr(view, "is_foreign"):
        codes += BODY_REFUSALS
    if query:
        codes.append("validation_failed")
    if hasattr(view, "limit"):
        codes.append("rate_limited")
    operation["security"] = []
    if not hasattr(view, "is_public"):
        operation["security"] += [{"bearer": []}, {"password": []}]
        if hasattr(view, "scope"):
            operation["security"].append({"service_key": [view.scope]})
        codes += caller_refusals
    if hasattr(view, "is_repeatable"):
        operation.setdefault("parameters", []).append(texts.described(IDEMPOTENCY_KEY, language))
    codes += getattr(view, "refusals", ())
    responses = operation["responses"]
    responses.pop("default")
    responses.pop("422", None)  # flask-smorest's own shape of error.
    status_of = getattr(view, "status_of", usual_status)
    responses |= problems([*codes, "internal_error"], language, status_of)
    for parameter in query:
        parameter["allowEmptyValue"] = True  # A parameter without a value is as none.
    if query:
        # A query can make an address longer than the service takes, see server/framing.py.
        responses |= problems(["bad_request"], language, lambda _: 414)


def describe_headers(view: Callable[..., Any], responses: dict[str, Any]) -> None:
    """Add the headers of each response."""
    limits = ["RateLimit", "RateLimit-Policy"] if hasattr(view, "limit") else []
    for status, response in responses.items():
        names = ["X-Request-ID", *limits]
        names += ["Retry-After"] if status in ("429", "503") else []
        names += ["WWW-Authenticate"] if status == "401" else []
        names += ["Location"] if status == "201" and hasattr(view, "locates") else []
        is_problem = MEDIA_TYPE in response.get("content", ())
        names += ["Content-Language"] if is_problem else []
        names += ["X-Token-Code"] if is_problem and hasattr(view, "status_of") else []
        described = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = response.get("headers", {}) | described


def complete_problem(schema: dict[str, Any], language: texts.Language) -> None:
    """Describe the codes of all problems, and the members that only some of them have."""
    schema["properties"]["code"]["enum"] = sorted(texts.catalogue.problems)
    for code, message in sorted(texts.catalogue.problems.items()):
        for name, member in message.members.items():
            of = {**member, "description": texts.described("of", language)}
            described = schema["properties"].setdefault(name, of)
            described["description"] += f" `{code}`"


def tell_defaults(schema: dict[str, Any], language: texts.Language) -> None:
    """Describe the defaults of a body in words.

    openapi-typescript takes a field with a default for one that is always there.
    """
    for field in schema.get("properties", {}).values():
        if "default" in field:
            by_default = texts.described("by default", language)
            words = f"{by_default} {json.dumps(field.pop('default'))}"
            field["description"] = "; ".join(filter(None, (field.get("description"), words)))


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


def write(
    app: Flask, declared: dict[str, Any], caller_refusals: Iterable[str], language: texts.Language
) -> str:
    """The document in one language, as JSON.

    :param declared: what apispec knows from the views
    """
    written: dict[str, Any] = texts.described(declared, language)
    info = written["info"]
    info["description"] = "".join(info["description"])
    info["contact"]["name"] = "".join(info["contact"]["name"])
    for schema in written["components"]["schemas"].values():
        offer_aliases(schema)
        tell_defaults(schema, language)
    paths = written["paths"]
    written["paths"] = {path: paths[path] for path in (*START, "/token/validate", *paths)}
    for path in START:
        # Behind the tag of its room, by which generators name their modules.
        paths[path]["post"]["tags"].append(START_TAG["name"])
    drop_the_rest(app, written)
    complete_problem(written["components"]["schemas"]["Problem"], language)
    for view, name, operation in operations(app, written):
        operation["operationId"] = name
        complete(view, operation, caller_refusals, language)
        describe_headers(view, operation["responses"])
    return json.dumps(written, ensure_ascii=False)


def init_app(app: Flask, api: Api, caller_refusals: Iterable[str]) -> None:
    """Declare the document, after every view is registered.

    :param caller_refusals: the problem codes of any view that is not public
    """
    api.spec.components.schema("Problem", schema=ProblemResponse)
    declared: dict[str, Any] = api.spec.to_dict()
    del declared["components"]["responses"]
    for unused in ("Error", "PaginationMetadata"):
        del declared["components"]["schemas"][unused]
    declared["tags"].insert(0, START_TAG)
    declared["components"]["headers"] = HEADERS
    add(app, Document(functools.partial(write, app, declared, tuple(caller_refusals))))

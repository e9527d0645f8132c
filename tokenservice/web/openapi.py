"""What the API says of itself: the parts of its OpenAPI document that no view can know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask_smorest import Api

from tokenservice.web import schemas, texts
from tokenservice.web.problems import MEDIA_TYPE, TYPE_PREFIX

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
#: What every operation that reads a body, and is limited, may answer too.
WITH_BODY = (
    "validation_failed",
    "not_json",
    "payload_too_large",
    "unsupported_media_type",
    "rate_limited",
)
#: What every operation that needs a caller may answer too.
WITH_CALLER = (
    "not_authenticated",
    "access_token_invalid",
    "access_token_expired",
    "database_unavailable",
)

IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "Repeat a call whose answer was lost with the same key, and get that answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

LOGIN_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/Credentials"}},
        schemas.FORM: {
            "schema": {
                "type": "object",
                "properties": {
                    "grant_type": {"type": "string", "enum": ["password"]},
                    "username": {"type": "string", "format": "email"},
                    "password": {"type": "string", "format": "password"},
                },
                "required": ["username", "password"],
            }
        },
    },
}


def options(title: str) -> dict[str, Any]:
    """Give what the document holds beside its operations."""
    return {
        "title": title,
        "version": "1",
        "openapi_version": "3.1.0",
        "info": {
            "description": "Tokens that are honoured at most once: create one, hand it over, and "
            "whoever validates it uses it up. Log in with *Authorize* to try it here."
        },
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "oauth2",
                    "description": "**username** is your *correo*. Leave client_id and "
                    "client_secret empty.",
                    "flows": {"password": {"tokenUrl": "/auth/login", "scopes": {}}},
                }
            }
        },
    }


def problems(*codes: str) -> dict[str, Any]:
    """Describe the problems that an operation answers with, and an example of each."""
    responses: dict[str, Any] = {}
    for code in (*codes, "internal_error"):
        message = texts.PROBLEMS[code]
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


def operations(written: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of a whole document."""
    for path in written["paths"].values():
        yield from (operation for method, operation in path.items() if method != "parameters")


def document(api: Api) -> dict[str, Any]:
    """Give the whole document, without flask-smorest's own shape of error."""
    api.spec.components.schema("Problem", schema=schemas.ProblemDetails)
    api.spec.components.schema("Credentials", schema=schemas.Credentials)
    written: dict[str, Any] = api.spec.to_dict()
    del written["components"]["responses"]
    for unused in ("Error", "PaginationMetadata"):
        del written["components"]["schemas"][unused]
    # A query can make an address longer than gunicorn takes, see worker.STATUS.
    too_long = problems("bad_request")["400"]
    too_long["content"][MEDIA_TYPE]["examples"]["bad_request"]["value"]["status"] = 414
    for operation in operations(written):
        responses = operation["responses"]
        responses.pop("default")
        responses.get("422", {}).pop("$ref", None)
        query = [each for each in operation.get("parameters", []) if each["in"] == "query"]
        for parameter in query:
            parameter["allowEmptyValue"] = True  # See schemas.ListQuery.
        if query:
            responses["414"] = too_long
    return written

"""The page, and the calls of its buttons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, render_template, request, send_from_directory

from dev.demo import handover
from dev.demo.calls import Program
from dev.demo.keys import SCOPES
from dev.demo.steps import LIFE_SECONDS, Demo, Outcome
from dev.demo.texts import PAGE, SAYINGS
from tokenservice.web import texts
from tokenservice.web.headers import PAGE_POLICY
from tokenservice.web.problems import Problem
from tokenservice.web.views import public

STATIC = Path(__file__).parent / "static"
#: Names of this machine. A page of another site can make a name of its own lead here (DNS
#: rebinding), but the browser then names that in ``Host``.
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SECRET = re.compile(r"(ott_\w{6})\w+")
#: The members of a response that the page shows, in this order.
SHOWN = ("token", "expires_in", "valid", "data", "code", "field", "replayed")

blueprint = Blueprint("demo", __name__, url_prefix="/demo", template_folder="templates")


@blueprint.before_request
def refuse_strangers() -> None:
    """Serve nobody but the browser of this machine, and no page but this one.

    :raises Problem: another name in ``Host``, or a POST from another origin
    """
    own = urlsplit(request.host_url)
    if own.hostname not in LOOPBACK:
        raise Problem("forbidden")
    if request.method == "POST" and request.origin != f"{own.scheme}://{own.netloc}":
        raise Problem("forbidden")


@blueprint.route("")
@public
def page() -> Response:
    language = texts.of_page()
    response = Response(
        render_template(
            "demo.html",
            words=PAGE[language],
            silent=SAYINGS[language]["silent"],
            language=language,
            other="en" if language == "es" else "es",
            owns_redis=handover.read().owns_redis,
        )
    )
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.headers.extend(texts.spoken(language))
    return response


@blueprint.route("/static/<path:name>")
@public
def static(name: str) -> Response:
    return send_from_directory(STATIC, name)


@blueprint.route("/create", methods=["POST"])
@public
def create() -> Response:
    return told(demo().create())


@blueprint.route("/consume", methods=["POST"])
@public
def consume() -> Response:
    return told(demo().consume(given_token()))


@blueprint.route("/race", methods=["POST"])
@public
def race() -> Response:
    return told(demo().race(given_token()))


@blueprint.route("/lose", methods=["POST"])
@public
def lose() -> Response:
    return told(demo().lose(given_token()))


@blueprint.route("/restart", methods=["POST"])
@public
def restart() -> Response:
    if not handover.read().owns_redis:
        raise Problem("not_found")
    return told(demo().restart())


def demo() -> Demo:
    """The programs of both sides, with their keys, which stay in this process."""
    port, language, left = int(request.environ["SERVER_PORT"]), texts.of_page(), handover.read()
    backend, gateway = (Program(port, left.keys.get(side, ""), language) for side in SCOPES)
    return Demo(backend, gateway, left.account)


def given_token() -> str:
    """The token that the page presents, as a page presents it to a gateway.

    :raises Problem: there is none
    """
    body = request.get_json()
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str):
        raise Problem("validation_failed", errors={"token": ["Missing data for required field."]})
    return token


def told(outcome: Outcome) -> Response:
    """The outcome for the page's script: its token, its sentence, and the HTML of its calls."""
    language = texts.of_page()
    said = SAYINGS[language][outcome.saying].format_map(outcome.facts)
    html = render_template(
        "outcome.html",
        words=PAGE[language],
        outcome=outcome,
        said=said,
        shown=shown,
        phrase=phrase,
    )
    return jsonify(
        token=outcome.token,
        token_shown=shortened(outcome.token),
        life=LIFE_SECONDS,
        state=outcome.state,
        side=outcome.side,
        goes_on=outcome.goes_on,
        said=said,
        html=html,
    )


def phrase(status: int) -> str:
    """A status as it stands in a response, such as 409 Conflict."""
    return f"{status} {HTTPStatus(status).phrase}"


def shortened(text: str) -> str:
    """Any text with no more of a token than the beginning of its id, which is public."""
    return SECRET.sub(r"\1…", text)


def shown(members: Mapping[str, Any], *, all_of_them: bool = False) -> dict[str, str]:
    """Members of a body by name, as JSON, in short."""
    names = members if all_of_them else [name for name in SHOWN if name in members]
    return {name: shortened(json.dumps(members[name], ensure_ascii=False)) for name in names}

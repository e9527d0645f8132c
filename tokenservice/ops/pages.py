"""Pages for readers: the API documentation, its OpenAPI document, and one page per problem."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    Response,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)
from werkzeug import Response as AnyResponse

from tokenservice.extensions import config
from tokenservice.ops.blueprint import blueprint
from tokenservice.web import texts
from tokenservice.web.headers import PAGE_POLICY
from tokenservice.web.openapi import document
from tokenservice.web.problems import Problem
from tokenservice.web.views import public

STATIC = Path(__file__).parent / "static"
SWAGGER_UI = Path(str(resources.files("flask_swagger_ui"))) / "dist"


@blueprint.route("/")
@public
def home() -> AnyResponse:
    if not config.docs_enabled:
        raise Problem("not_found")
    return redirect(url_for("ops.docs"))


@blueprint.route("/openapi.json")
@public
def openapi() -> Response:
    return Response(document.below(request.script_root), mimetype="application/json")


@blueprint.route("/docs")
@public
def docs() -> Response:
    if not config.docs_enabled:
        raise Problem("not_found")
    return page("docs.html", title=config.app_name)


@blueprint.route("/docs/assets/<path:name>")
@public
def docs_asset(name: str) -> Response:
    """The files of Swagger UI, from its wheel: the page needs no network."""
    if not config.docs_enabled:
        raise Problem("not_found")
    response = send_from_directory(SWAGGER_UI, name, conditional=False)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


@blueprint.route("/problems/<code>")
@public
def problem(code: str) -> Response:
    """Explain one problem code, in the reader's language."""
    if code not in texts.catalogue.problems:
        raise Problem("not_found")
    language = texts.language()
    found = texts.catalogue.problems[code]
    response = page(
        "problem.html",
        code=code,
        status=found.status,
        language=language,
        text=found.text(language),
    )
    response.headers["Content-Language"] = language
    response.vary.add("Accept-Language")
    return response


@public
def static(filename: str) -> Response:
    """The files of these pages."""
    return send_from_directory(STATIC, filename)


def page(template: str, **values: Any) -> Response:
    response = Response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def init_app(app: Flask) -> None:
    app.add_url_rule("/static/<path:filename>", "static", static)

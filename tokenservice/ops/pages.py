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
from tokenservice.ops.advice import ADVICE, FATES, neighbours
from tokenservice.ops.blueprint import blueprint
from tokenservice.web import texts
from tokenservice.web.headers import PAGE_POLICY
from tokenservice.web.openapi import document
from tokenservice.web.problems import Problem
from tokenservice.web.schemas import OPEN_OBJECT, TEXT
from tokenservice.web.views import operation, public

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
@blueprint.response(200, OPEN_OBJECT)
@operation("openapi")
def openapi() -> Response:
    """Read this document

    Its paths are those that the caller sees, behind a proxy with a prefix too.
    """
    # A program reads it in English whatever its Accept-Language: clients are made from it.
    written = document.below(request.script_root, texts.linked() or "en")
    return Response(written, mimetype="application/json")


@blueprint.route("/docs")
@public
def docs() -> Response:
    if not config.docs_enabled:
        raise Problem("not_found")
    return spoken_page("docs.html", title=config.app_name)


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
@blueprint.response(200, TEXT, content_type="text/html")
@operation("problem", "not_found")
def problem(code: str) -> Response:
    """Explain one problem code, in the reader's language

    The member ``type`` of each problem leads here. To a program, an unknown code is a problem.
    """
    problems, language = texts.catalogue.problems, texts.of_page()
    if code not in problems:
        if "text/html" not in request.accept_mimetypes.values():  # A browser names it.
            raise Problem("not_found")
        return spoken_page("problems.html", status_code=404, problems=problems, unknown=code)
    given = ADVICE[code]
    return spoken_page(
        "problem.html",
        code=code,
        status=problems[code].status,
        text=problems[code].text(language),
        advice=given.text(language),
        fate=FATES[given.fate][language],
        neighbours={other: problems[other].text(language) for other in neighbours(code)},
    )


@blueprint.route("/problems")
@public
@blueprint.response(200, TEXT, content_type="text/html")
@operation("problems")
def problem_index() -> Response:
    """List the problems, in the reader's language

    By their codes, with the status of each.
    """
    ordered = sorted(texts.catalogue.problems.items(), key=lambda each: (each[1].status, each[0]))
    return spoken_page("problems.html", problems=dict(ordered))


@public
def static(filename: str) -> Response:
    """The files of these pages."""
    return send_from_directory(STATIC, filename)


def spoken_page(template: str, status_code: int = 200, **values: Any) -> Response:
    """A page in the reader's language, with the other one for a link to it."""
    language = texts.of_page()
    other = "en" if language == "es" else "es"
    response = page(template, language=language, other=other, **values)
    response.status_code = status_code
    response.headers.extend(texts.spoken(language))
    return response


def page(template: str, **values: Any) -> Response:
    response = Response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def init_app(app: Flask) -> None:
    app.add_url_rule("/static/<path:filename>", "static", static)

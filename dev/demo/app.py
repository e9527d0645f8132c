"""What gunicorn loads under ``make run``: the service, with the page beside it."""

from dev.demo.pages import blueprint
from wsgi import app

__all__ = ["app"]

app.register_blueprint(blueprint)

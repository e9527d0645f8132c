"""What gunicorn and the ``flask`` command load."""

import sys

from config import Config
from settings.environment import ConfigError, forget_what_flask_read
from tokenservice import create_app

try:
    forget_what_flask_read()
    app = create_app(Config.in_force or Config.from_env())
except ConfigError as error:
    sys.exit(str(error))

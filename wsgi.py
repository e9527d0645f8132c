"""What gunicorn and the ``flask`` command load."""

import sys

from config import Config, ConfigError
from tokenservice import create_app

try:
    app = create_app(Config.in_force or Config.from_env())
except ConfigError as error:
    sys.exit(str(error))

"""Flask-Migrate, and with it Alembic: 11 MB that only ``flask db`` needs."""

from __future__ import annotations

import os
from typing import Any

from flask_migrate import Migrate


class Migrations(Migrate):
    """Migrations in a folder of any name: a ``%`` in it is a sign to alembic's parser."""

    def get_config(self, directory: str | None = None, x_arg: Any = None, opts: Any = None) -> Any:
        config: Any = super().get_config(os.devnull, x_arg, opts)  # It has no alembic.ini.
        folder = str(directory or self.directory).replace("%", "%%")
        config.set_main_option("script_location", folder)
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        return config

"""The parts of config.py: the sources of settings, their fields, the grammar of addresses."""

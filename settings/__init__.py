"""The parts of config.py: where settings come from, and the grammar of addresses."""

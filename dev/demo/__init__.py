"""The page ``/demo`` of ``make run``: what the service promises, to see and to try.

``app`` and ``pages`` run inside gunicorn; ``make run`` itself needs the other modules, which know
the standard library alone.
"""

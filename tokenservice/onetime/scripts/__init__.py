"""The verbs as Redis runs them: one Lua script each, put together from its parts."""

from __future__ import annotations

from importlib import resources

#: The parts that stand before each verb, behind prelude.lua.
PARTS = {
    "create": (),
    "again": (),
    "sweep": (),
    "validate": ("judge",),
    "reserve": ("judge",),
    "commit": ("judge",),
    "release": ("judge",),
    "revoke": ("judge",),
    "look": ("receipt",),
    "page": (),
    "receipts": ("receipt",),
    "probe": (),
}


def _part(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


def _script(verb: str) -> str:
    return "".join(_part(name) for name in ("prelude", *PARTS[verb], verb))


#: Read with the code that speaks to them. A worker that starts again later must not find newer.
SCRIPTS = {verb: _script(verb) for verb in PARTS}

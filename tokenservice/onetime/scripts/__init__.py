"""One Lua script a verb, joined from its parts."""

from __future__ import annotations

from importlib import resources

#: The parts between prelude.lua and each verb.
PARTS = {
    "create": (),
    "again": ("receipt",),
    "sweep": (),
    "validate": ("terms", "judge"),
    "reserve": ("terms", "judge"),
    "commit": ("terms", "judge"),
    "release": ("terms", "judge"),
    "revoke": ("terms", "judge"),
    "revoke_all": (),
    "enable": (),
    "look": ("receipt",),
    "page": (),
    "receipts": ("receipt",),
    "probe": (),
    "census": (),
    "outstanding": (),
}


def _part(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


def _script(verb: str) -> str:
    return "".join(_part(name) for name in ("prelude", *PARTS[verb], verb))


#: Read at import: a worker that restarts later must not find newer scripts than its code.
SCRIPTS = {verb: _script(verb) for verb in PARTS}

"""docs/architecture.md: the map of the rooms, in both languages."""

from __future__ import annotations

from tests.docs.pages import ROOT, blocks, either_language, read


@either_language("docs/architecture.md")
def test_map_names_the_existing_rooms(page: str) -> None:
    """A room, or a module beside the rooms, that is added, renamed or dropped turns this red."""
    [drawn] = blocks(read(page), "text")
    path: list[str] = []
    rooms, modules = set(), set()
    for line in drawn.splitlines():
        name = line.split()[0]
        path = [*path[: (len(line) - len(line.lstrip())) // 2], name.removesuffix("/")]
        if name.endswith("/"):
            assert ROOT.joinpath(*path).is_dir(), line
            rooms.add("/".join(path))
        else:
            modules.add("/".join(path))
    package = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("tokenservice/**/*.py")}
    assert package <= rooms
    beside = [*ROOT.glob("*.py"), *ROOT.glob("tokenservice/*.py")]
    assert modules == {str(path.relative_to(ROOT)) for path in beside}

"""Plain text: the characters of a field for people, and of all output to a terminal.

Texts reach pages, logs and terminals that this service does not know. So characters that control
them, or hide in them, are refused (compare FreeformClass, RFC 8264 section 4.3):

- controls, C1 among them: U+009B begins a command to a terminal
- format characters: those that turn the direction of writing show one text for another, and
  tags and zero-width ones hide a text in another
- line and paragraph separators, lone surrogates, private use, and what will never be a character
- letters and symbols that are blank
- more than four marks in a row (UTS #39 section 5.4), which would be drawn over the lines around,
  and a mark at the beginning, which would stand on whatever is before

Persian and Indic words, and families of emoji, are written with the two joiners, which count as
marks; emoji and Japanese names with variation selectors, which are marks. So what is not empty
shows something. What Python knows nothing of may be a letter of a newer Unicode: many of those
come for the sake of names.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator

MOST_MARKS = 4
MARKS = frozenset({"Mn", "Me"})
JOINERS = "\u200c\u200d"
BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159"
REFUSED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Noncharacters, and code points reserved for invisible characters (Unicode, 5.21 and 23.7).
RESERVED = (
    range(0x2065, 0x2066),
    range(0xFDD0, 0xFDF0),
    range(0xFFF0, 0x10000),
    range(0xE0000, 0xE1000),
    *(range(end - 2, end) for end in range(0x20000, 0x110001, 0x10000)),
)


def is_plain(text: str) -> bool:
    if text.isascii():
        return text.isprintable()
    return all(allowed for _, allowed in judged(text))


def escaped(text: str) -> str:
    """Escape the other characters as JSON does, so that a line of JSON keeps its meaning."""
    return "".join(each if allowed else json.dumps(each)[1:-1] for each, allowed in judged(text))


def judged(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether plain text may have it there."""
    marks = MOST_MARKS
    for each in text:
        category = unicodedata.category(each)
        marks = marks + 1 if category in MARKS or each in JOINERS else 0
        yield each, marks <= MOST_MARKS and not is_hidden(each, category)


def is_hidden(character: str, category: str) -> bool:
    if category == "Cn":
        return any(ord(character) in span for span in RESERVED)
    return character in BLANKS or (category in REFUSED and character not in JOINERS)

"""A phone that is signed in pairs a screen that is not, by the QR code on the screen.

The code only lets a phone approve. The screen proves itself by a secret that it never shows, and
the person before it by the number that the phone shows.
"""

import secrets
from urllib.parse import urldefrag

from account import Account, check, enrol, refusal, run

from token_service_client import AlreadyUsed, Mismatch, NotForCaller, email_link

PURPOSE = "device.pair"
LIFE = 120


class Cinema:
    """The backend of the screens and of the phones."""

    def __init__(self, account: Account) -> None:
        self.tokens, self.id = account.tokens, account.id
        self.screens: dict[str, str] = {}  # the id of each secret
        self.names: dict[str, str] = {}
        self.approvals: dict[str, tuple[str, str]] = {}

    def show(self, name: str) -> tuple[str, str]:
        """Give a screen a secret for itself, and the text of its QR code."""
        secret, screen = secrets.token_urlsafe(32), secrets.token_hex(8)
        self.screens[secret], self.names[screen] = screen, name
        terms = {"audience": self.id, "subject": screen, "expires_in": LIFE}
        made = self.tokens.create(purpose=PURPOSE, **terms)
        return secret, email_link("https://cinema.example/pair", made)

    def look(self, token: str) -> str | None:
        """Name the screen to a phone that has read the code; consume nothing."""
        seen = self.tokens.peek(token, issued_by=self.id)
        return self.names[seen.subject] if seen and seen.purpose == PURPOSE else None

    def approve(self, person: str, token: str) -> str:
        """Take the approval of a person who is signed in, and give the phone a number to show."""
        # Anyone with an account can create a token that names a screen; only the cinema's count.
        use = self.tokens.consume(token, purpose=PURPOSE, issued_by=self.id)
        number = f"{secrets.randbelow(1_000_000):06}"
        self.approvals[use.subject] = person, number
        return number

    def confirm(self, secret: str, number: str) -> str | None:
        """Tell a screen whose it is, if the number typed there is that of the phone."""
        # One guess: a second one needs a new code, and another approval.
        person, expected = self.approvals.pop(self.screens.get(secret, ""), (None, ""))
        return person if number == expected else None


def another(number: str) -> str:
    """The guess of a person who does not see the phone."""
    return f"{(int(number) + 1) % 1_000_000:06}"


def main() -> None:
    account, stranger = enrol("cinema"), enrol("stranger")
    cinema = Cinema(account)
    secret, code = cinema.show("Living room")
    page, token = urldefrag(code)
    print(f"    the QR code, valid for {LIFE} s, holds {page}#ott_…")
    check(cinema.look(token) == "Living room", "ana's phone read the code and names the screen")
    expected = {"purpose": PURPOSE, "issued_by": account.id}
    seen = refusal(lambda: stranger.tokens.consume(token, **expected))
    check(isinstance(seen, NotForCaller), "a stranger cannot use it at the service", seen)

    number = cinema.approve("ana", token)
    check(cinema.confirm("", number) is None, "the number alone, without the secret: nobody's")
    check(cinema.confirm(secret, number) == "ana", "the number typed at the screen: it is ana's")
    again = refusal(lambda: cinema.approve("ana", token))
    check(isinstance(again, AlreadyUsed), "the code again: token_already_used", again)

    # Mallory photographs the screen and is faster; or she mails ana the code of her own screen.
    for person, before_it in (("mallory", "ana"), ("ana", "mallory")):
        secret, code = cinema.show("Living room")
        number = cinema.approve(person, urldefrag(code).fragment)
        guessed = cinema.confirm(secret, another(number)) or cinema.confirm(secret, number)
        check(guessed is None, f"{person} approved, and {before_it} sees no number: nobody's")

    # The stranger's code names the screen of the stranger.
    terms = {"audience": account.id, "subject": "screen of the stranger"}
    forged = stranger.tokens.create(purpose=PURPOSE, **terms)
    refused = refusal(lambda: cinema.approve("ana", forged.token))
    is_issuer = isinstance(refused, Mismatch) and refused.field == "issued_by"
    check(is_issuer, "a code that is not the cinema's: token_mismatch", refused)


if __name__ == "__main__":
    run(main)

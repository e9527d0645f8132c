"""A link in an e-mail that works once, even if mail scanners open it first.

The link only shows a button. The token is in the fragment of the link, after the #: a browser sends
that part to no server, so no log and no Referer holds it.
"""

import http.client
import re
import secrets
import urllib.parse
from http.server import BaseHTTPRequestHandler

from account import check, enrol, run
from loopback import serving

from token_service_client import Tokens, TokensError, email_link

PURPOSE = "correo.confirm"
HOUR = 3600
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Confirm your address</title>
<form method="post">
<input type="hidden" name="token"><input type="hidden" name="click" value="{click}">
<button>Confirm my address</button></form>
<script>document.forms[0].token.value = location.hash.slice(1)
history.replaceState(null, "", location.pathname)</script>"""


class Site(BaseHTTPRequestHandler):
    tokens: Tokens
    account_id: str
    confirmed: set[str]

    def do_GET(self) -> None:
        """Show the button and consume nothing: GET is safe (RFC 9110 section 9.2.1)."""
        self.respond(200, PAGE.format(click=secrets.token_urlsafe(16)))

    def do_POST(self) -> None:
        length = min(int(self.headers["Content-Length"]), 4096)
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        try:
            use = self.tokens.consume(
                form.get("token", ""),
                purpose=PURPOSE,
                # Anyone with an account can create a token for this site; only its own count.
                issued_by=self.account_id,
                # One key for each page shown, so that a double click shows the success twice.
                idempotency_key=form.get("click", ""),
            )
        except TokensError as error:
            self.respond(error.status or 503, f"<p>{error.code}. Ask for a new link.")
        else:
            self.confirmed.add(use.subject)
            self.respond(200, "<p>Confirmed.")

    def respond(self, status: int, page: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(page.encode())


def fetch(link: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Open ``link`` as a browser or a scanner does: the fragment after the # is not sent."""
    url = urllib.parse.urlsplit(link)
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    body = urllib.parse.urlencode(form) if form else None
    connection.request("POST" if form else "GET", url.path, body, kind)
    with connection.getresponse() as response:
        page = response.read().decode()
    connection.close()
    return response.status, page


def main() -> None:
    site = enrol("site")
    Site.tokens, Site.account_id, Site.confirmed = site.tokens, site.id, set()
    person = "ana@example.com"
    made = site.tokens.create(purpose=PURPOSE, audience=site.id, subject=person, expires_in=HOUR)
    print(f"ok  a link that lives {HOUR} s was mailed")
    with serving(Site) as (host, port):
        link = email_link(f"http://{host}:{port}/confirm", made)
        scans = [fetch(link) for _ in range(5)]
        check(all(status == 200 for status, _ in scans), "a scanner opened the link 5 times")
        state = site.tokens.receipt(made.id).state
        check((state, Site.confirmed) == ("active", set()), "the link still is good")

        clicks = [re.findall('name="click" value="(.+?)"', fetch(link)[1])[0] for _ in range(2)]
        forms = [{"token": urllib.parse.urlsplit(link).fragment, "click": n} for n in clicks]
        check(fetch(link, forms[0])[0] == 200, "the person pressed the button: confirmed")
        check(fetch(link, forms[0])[0] == 200, "pressed twice: the same answer")
        status, page = fetch(link, forms[1])
        refused = status == 409 and "token_already_used" in page
        check(refused, "opened again later: token_already_used")
        check(Site.confirmed == {person}, f"{person} is confirmed")


if __name__ == "__main__":
    run(main)

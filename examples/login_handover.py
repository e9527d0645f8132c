"""A person who is signed in at a portal opens a wiki signed in.

The portal creates the token and the browser posts it. The token is bound to a nonce that the wiki
gave to this browser, so that it signs nobody in elsewhere.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

import httpx
from account import Account, check, enrol, run
from loopback import serving

from token_service_client import Refused, Tokens, TokensError, bind_of

PURPOSE = "login.handover"
LIFE = 30
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>To the wiki</title>
<form method="post" action="{wiki}/handover">
<input type="hidden" name="token" value="{token}"><button>To the wiki</button></form>
<script>document.forms[0].submit()</script>"""


class Site(BaseHTTPRequestHandler):
    tokens: Tokens
    account_id: str
    address: str
    sessions: dict[str, str]

    def cookie(self, name: str) -> str:
        found = SimpleCookie(self.headers["Cookie"]).get(f"__Host-{name}")
        return found.value if found else ""

    def respond(self, status: int, page: str, *cookies: str, to: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        for cookie in cookies:  # __Host-: no other site, not even a subdomain, can set it.
            self.send_header("Set-Cookie", f"__Host-{cookie}; Path=/; Secure; HttpOnly")
        if to:
            self.send_header("Location", to)
        self.end_headers()
        self.wfile.write(page.encode())


class Portal(Site):
    def do_GET(self) -> None:
        """Give the person a form with a token, which posts itself to the wiki and nowhere else."""
        if not (person := self.sessions.get(self.cookie("portal"))):
            self.respond(401, "Sign in first.")
            return
        query = dict(parse_qsl(urlsplit(self.path).query))
        terms = {"audience": Wiki.account_id, "subject": person, "expires_in": LIFE}
        try:
            # A request without a hash is refused: "" is none.
            made = self.tokens.create(purpose=PURPOSE, bind=query.get("browser", ""), **terms)
        except TokensError as error:
            self.respond(error.status or 503, error.code)
        else:
            self.respond(200, PAGE.format(wiki=Wiki.address, token=made.token))


class Wiki(Site):
    def do_GET(self) -> None:
        """Name the person; at /login, give the browser a nonce, and the portal its hash."""
        if self.path != "/login":
            self.respond(200, self.sessions.get(self.cookie("wiki"), "nobody"))
            return
        nonce = secrets.token_urlsafe(32)
        to = f"{Portal.address}/handover?browser={bind_of({'nonce': nonce})}"
        # The form is a POST from another site, which brings no Lax cookie along.
        self.respond(303, "", f"nonce={nonce}; SameSite=None; Max-Age=300", to=to)

    def do_POST(self) -> None:
        """Sign the person in, if the token was made for this browser."""
        length = min(int(self.headers["Content-Length"]), 4096)
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        if not (nonce := self.cookie("nonce")):  # Anyone can hash an empty one.
            self.respond(403, "nonce_missing")
            return
        terms = {"issued_by": Portal.account_id, "bind": bind_of({"nonce": nonce})}
        try:
            use = self.tokens.consume(form.get("token", ""), purpose=PURPOSE, **terms)
        except TokensError as error:
            self.respond(403 if isinstance(error, Refused) else 503, error.code)
            return
        session = secrets.token_urlsafe(32)  # A new one: somebody may have planted the old one.
        self.sessions[session] = use.subject
        end = "nonce=; SameSite=None; Max-Age=0"
        self.respond(303, "", end, f"wiki={session}; SameSite=Lax", to="/")


@contextmanager
def sites(portal: Account, wiki: Account) -> Iterator[None]:
    """Serve both, on two hosts, because a browser tells sites apart by the host."""
    with serving(Portal) as (host, port), serving(Wiki) as (_, other):
        addresses = f"http://{host}:{port}", f"http://localhost:{other}"
        for site, account, address in zip((Portal, Wiki), (portal, wiki), addresses, strict=True):
            site.tokens, site.account_id = account.tokens, account.id
            site.address, site.sessions = address, {}
        yield


class Browser:
    """A browser whose person is signed in at the portal. It forgets no cookie."""

    def __init__(self, person: str) -> None:
        self.cookies = {"__Host-portal": secrets.token_urlsafe(32)}
        Portal.sessions[self.cookies["__Host-portal"]] = person

    def open(self, address: str, form: dict[str, str] | None = None) -> str:
        """Follow the redirects, and return the page."""
        sent = {"data": form, "cookies": self.cookies, "timeout": 30}
        response = httpx.request("POST" if form else "GET", address, **sent)
        self.cookies.update(response.cookies)
        onward = response.next_request
        return self.open(str(onward.url)) if onward else response.text

    def form(self, address: str) -> dict[str, str]:
        """Open a page, and keep its form from posting itself."""
        return dict(re.findall('name="(token)" value="(.+?)"', self.open(address)))


def main() -> None:
    portal, wiki = enrol("portal"), enrol("wiki")
    with sites(portal, wiki):
        login, handover = f"{Wiki.address}/login", f"{Wiki.address}/handover"
        ana, mallory = Browser("ana"), Browser("mallory")

        form = ana.form(login)
        check(ana.open(handover, form) == "ana", "ana is signed in at the wiki")
        again = ana.open(handover, form)
        check(again == "token_already_used", "posted again: token_already_used", again)

        # A page of mallory's posts her form from ana's browser, so that ana writes as mallory.
        planted = ana.open(handover, mallory.form(login))
        check(planted == "token_mismatch", "mallory's form in ana's browser: refused", planted)
        of_none = f"{Portal.address}/handover?browser={bind_of({'nonce': ''})}"
        planted = httpx.post(handover, data=mallory.form(of_none)).text
        check(planted == "nonce_missing", "in a browser without a nonce: refused", planted)
        check(ana.open(Wiki.address) == "ana", "ana still is ana")

        bind = bind_of({"nonce": mallory.cookies["__Host-nonce"]})
        forged = wiki.tokens.create(purpose=PURPOSE, audience=wiki.id, subject="ana", bind=bind)
        posed = mallory.open(handover, {"token": forged.token})
        check(posed == "token_mismatch", "a token that is not from the portal: refused", posed)


if __name__ == "__main__":
    run(main)

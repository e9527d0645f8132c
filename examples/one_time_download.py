"""A file that can be downloaded once; a broken download does not lose the ticket.

The server holds the ticket while it sends: the end consumes it, and a failure releases it.
"""

import http.client
import secrets
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

from account import check, enrol, run
from loopback import serving

from token_service_client import Tokens, TokensError

PURPOSE = "file.download"
LEASE_SECONDS = 30
PIECE = 64 * 1024
FILES = {"report.pdf": secrets.token_bytes(16 * 1024 * 1024)}


class Shop(BaseHTTPRequestHandler):
    timeout = LEASE_SECONDS  # for a reader that stalls
    tokens: Tokens
    account_id: str
    begun = False

    def do_POST(self) -> None:
        length = min(int(self.headers["Content-Length"]), 4096)
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        lease_end = time.monotonic() + LEASE_SECONDS
        # Anyone with an account can create a ticket that names a file; only the shop's own count.
        terms = {"purpose": PURPOSE, "issued_by": self.account_id, "lease": LEASE_SECONDS}
        try:
            with self.tokens.hold(form.get("token", ""), **terms) as held:
                self.send_file(held.data["file"], lease_end)
        except OSError:  # The client went away, or the lease is over. The ticket is free again.
            pass
        except TokensError as error:
            if not self.begun:  # or else the commit failed, and the client has the file
                self.send_error(error.status or 503, error.code)

    def send_file(self, name: str, lease_end: float) -> None:
        self.begun = True
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(FILES[name])))
        self.send_header("Content-Disposition", f'attachment; filename="{name}"')
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        for start in range(0, len(FILES[name]), PIECE):
            if time.monotonic() > lease_end:  # From now on another caller may hold the ticket.
                raise TimeoutError
            self.wfile.write(FILES[name][start : start + PIECE])


def download(address: tuple[str, int], ticket: str, length: int | None = None) -> tuple[int, bytes]:
    """Submit the form of a page, and hang up after ``length`` bytes."""
    connection = http.client.HTTPConnection(*address, timeout=LEASE_SECONDS)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/download", urllib.parse.urlencode({"token": ticket}), form)
    with connection.getresponse() as response:
        content = response.read(length)
    connection.close()
    return response.status, content


def wait_for(state: str, tokens: Tokens, token_id: str) -> bool:
    """Poll the receipt until its state is ``state``, a little after the client has the file."""
    for _ in range(100):
        if tokens.receipt(token_id).state == state:
            return True
        time.sleep(0.1)
    return False


def main() -> None:
    shop = enrol("shop")
    Shop.tokens, Shop.account_id = shop.tokens, shop.id
    file = {"file": "report.pdf"}
    made = shop.tokens.create(purpose=PURPOSE, audience=shop.id, data=file, expires_in=300)
    print("ok  the buyer has a ticket for report.pdf")
    with serving(Shop) as address:
        status, part = download(address, made.token, PIECE)
        check((status, len(part)) == (200, PIECE), "the connection broke after 64 KiB")
        check(wait_for("active", shop.tokens, made.id), "the shop gave the ticket back")
        status, content = download(address, made.token)
        check((status, content) == (200, FILES["report.pdf"]), "the whole file arrived")
        check(wait_for("consumed", shop.tokens, made.id), "the shop used the ticket up")
        status, page = download(address, made.token)
        refused = status == 409 and b"token_already_used" in page
        check(refused, "a second download: token_already_used")


if __name__ == "__main__":
    run(main)

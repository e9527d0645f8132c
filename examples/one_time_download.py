"""A file that can be downloaded once; a broken download does not lose the ticket.

The server reserves the ticket while it sends, commits at the end, and releases it on failure.
"""

import http.client
import secrets
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

from client import Client, check
from loopback import serving

PURPOSE = "file.download"
LEASE_SECONDS = 30
PIECE = 64 * 1024
FILES = {"report.pdf": secrets.token_bytes(16 * 1024 * 1024)}


class Shop(BaseHTTPRequestHandler):
    timeout = LEASE_SECONDS  # for a reader that stalls
    account: Client

    def do_POST(self) -> None:
        length = min(int(self.headers["Content-Length"]), 4096)
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        lease_end = time.monotonic() + LEASE_SECONDS
        # Anyone with an account can create a ticket that names a file; only the shop's own count.
        terms = {"purpose": PURPOSE, "issued_by": [self.account.id], "lease_seconds": LEASE_SECONDS}
        held = self.account.post("/token/reserve", {"token": form.get("token", ""), **terms})
        if held.status != 200:
            self.send_error(held.status, held.body["code"])
            return
        reservation = {"reservation": held.body["reservation"]}
        try:
            self.send_file(held.body["data"]["file"], lease_end)
        except OSError:  # The client went away, or the lease is over.
            self.account.post("/token/release", reservation)
        else:
            self.account.post("/token/commit", reservation)

    def send_file(self, name: str, lease_end: float) -> None:
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


def wait_for(state: str, account: Client, token_id: str) -> bool:
    """Poll the receipt until its state is ``state``, a little after the client has the file."""
    for _ in range(100):
        if account.get(f"/token/{token_id}").body.get("state") == state:
            return True
        time.sleep(0.1)
    return False


def main() -> None:
    shop = Shop.account = Client("shop")
    terms = {"purpose": PURPOSE, "audience": [shop.id], "data": {"file": "report.pdf"}}
    made = shop.post("/token/create", {**terms, "expires_in": 300})
    check(made.status == 201, "the buyer has a ticket for report.pdf", made)
    token_id, ticket = made.body["id"], made.body["token"]
    with serving(Shop) as address:
        status, part = download(address, ticket, PIECE)
        check((status, len(part)) == (200, PIECE), "the connection broke after 64 KiB")
        check(wait_for("active", shop, token_id), "the shop gave the ticket back")
        status, content = download(address, ticket)
        check((status, content) == (200, FILES["report.pdf"]), "the whole file arrived")
        check(wait_for("consumed", shop, token_id), "the shop used the ticket up")
        status, page = download(address, ticket)
        refused = status == 409 and b"token_already_used" in page
        check(refused, "a second download: token_already_used")


if __name__ == "__main__":
    main()

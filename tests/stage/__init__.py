"""What the tests share: servers, people, requests by hand, and ways to break things."""

#!/usr/bin/env python3
# Twelve clients at a time get twelve complete pages.
import hashlib
import http.client
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

host, port = subprocess.check_output([sys.executable, "../../../lib/httpd.py", "address"], text=True).split()


def fetch(_: int) -> tuple[int, int, str]:
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/numbers")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, len(body), hashlib.sha256(body).hexdigest()


with ThreadPoolExecutor(12) as clients:
    answers = list(clients.map(fetch, range(36)))
assert len(set(answers)) == 1, f"different answers: {sorted(set(answers))}"
assert answers[0][:2] == (200, 100_000), answers[0]

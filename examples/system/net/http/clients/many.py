#!/usr/bin/env python3
# Twelve clients at a time get twelve complete pages.
import hashlib
import http.client
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def fetch(address: list[str | int]) -> tuple[int, int, str]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/numbers")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, len(body), hashlib.sha256(body).hexdigest()


address = json.loads(Path(os.environ["PEXEN_VALUES"]).read_text())["values"]["httpd"]
with ThreadPoolExecutor(12) as clients:
    answers = list(clients.map(fetch, [address] * 36))
assert len(set(answers)) == 1, f"different answers: {sorted(set(answers))}"
assert answers[0][:2] == (200, 100_000), answers[0]

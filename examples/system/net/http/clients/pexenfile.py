"""Clients in Python: they receive the server's address as a value."""

import http.client

import pexen

defaults = dict(requires="httpd")


def get(httpd, path, **headers):
    connection = http.client.HTTPConnection(httpd["host"], httpd["port"], timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pexen.task
def pages(httpd):
    """The page is complete; a page that does not exist is 404 and nothing else."""
    response, body = get(httpd, "/numbers")
    assert response.status == 200, response.status
    assert body.split() == [b"%07d" % number for number in range(12_500)], f"{len(body)} bytes of something else"
    response, _ = get(httpd, "/nothing")
    assert response.status == 404, response.status


@pexen.task
def not_modified(httpd):
    """Who has the page already gets 304 and no body."""
    response, _ = get(httpd, "/numbers")
    tag = response.getheader("ETag")
    assert tag, f"no ETag in {response.getheaders()}"
    response, body = get(httpd, "/numbers", **{"If-None-Match": tag})
    assert (response.status, body) == (304, b""), (response.status, body[:100])
    response, body = get(httpd, "/numbers", **{"If-None-Match": '"other"'})
    assert (response.status, len(body)) == (200, 100_000), (response.status, len(body))

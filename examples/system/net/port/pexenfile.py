"""One port, several tasks: each claims it, so that no two ever want it at the same time."""

import socket

import pexen


@pexen.task(provides="port")
def choose():
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listen(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    server.settimeout(10)
    return server


@pexen.task(requires="port", claims="port")
def echo(port):
    """A connection carries bytes both ways, and its end is seen on the other side."""
    with listen(port) as server, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        peer, _ = server.accept()
        with peer:
            client.sendall(b"there")
            client.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: peer.recv(100), b""))
            peer.sendall(got + b" and back")
        back = b"".join(iter(lambda: client.recv(100), b""))
    assert back == b"there and back", back


@pexen.task(requires="port", claims="port")
def occupied(port):
    """Where one listens no second may, and where nobody listens connections are refused."""
    with listen(port):
        try:
            listen(port)
        except OSError as error:
            assert "in use" in str(error), error
        else:
            raise AssertionError(f"two listeners on port {port}")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10)
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError(f"somebody answers on port {port}")

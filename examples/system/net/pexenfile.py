"""What holds for everything below this folder."""

defaults = dict(timeout="30s", tags={"net"})

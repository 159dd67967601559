"""What the tests of the seam share."""

from collections.abc import Iterator

import pytest

from tests.contract.drivers import Drive, driving
from tests.contract.pools import CALLABLES, Kind


@pytest.fixture(params=CALLABLES)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the pools that run callables."""
    return CALLABLES[request.param]


@pytest.fixture
def drive(kind: Kind) -> Iterator[Drive]:
    """The pool, open, with two workers."""
    with driving(kind.make(2)) as drive:
        yield drive

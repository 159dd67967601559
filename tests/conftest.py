"""What holds for every test: it leaves nothing behind.

After each test there is no child process that was not there before, no new thread, no new open descriptor and nothing
named ``pexen*`` in the temporary folder. pexen promises to reap, join and close before it returns, so nothing is
waited for here; only a thread that is already past its last statement is joined, with a bound. A test that must leave
something says what, and why beside it: ``@pytest.mark.leaks("threads")``.

Costs a quarter of a millisecond a test: one system call says that a process has no children at all.
"""

import gc
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.leaks import Belongings, children, end, leaks_since

# Time limits of single examples fail on busy machines and claim nothing; what must not grow is counted instead.
settings.register_profile("pexen", settings(), deadline=None)
settings.load_profile("pexen")

FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the session a temporary folder of its own, so that another one beside it is never blamed on a test."""
    folder = str(tmp_path_factory.mktemp("t", numbered=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember whether the test has failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or a file; after a failure only clean up."""
    before = Belongings.now()
    yield
    leaks = leaks_since(before)
    if leaks:  # what a task printed is kept as long as its result, and a result may be part of a cycle
        gc.collect()
        leaks = leaks_since(before)
    end(children() - before.children)
    allowed = {kind for mark in request.node.iter_markers("leaks") for kind in mark.args}
    unexpected = {kind: leaked for kind, leaked in leaks.items() if kind not in allowed}
    if unexpected and not request.node.stash.get(FAILED, False):
        pytest.fail("the test left behind " + "; ".join(f"{kind}: {leaked}" for kind, leaked in unexpected.items()))

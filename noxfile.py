"""The tests on every supported Python that is installed: ``nox``, or ``nox -s tests-3.12 -- -k locks``."""

import nox

nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run pytest; arguments after ``--`` are handed on."""
    session.install("-c", "requirements-dev.txt", "-e", ".[dev]")
    session.run("pytest", *session.posargs)

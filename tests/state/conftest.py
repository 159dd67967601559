"""Everything that reads or writes records is tested with both codecs."""

import pytest

from pexen.state import codec


@pytest.fixture(params=["msgspec", "json"])
def coding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> codec.Codec:
    """Have all of pexen.state use one codec, and return it."""
    chosen = codec.with_msgspec() if request.param == "msgspec" else codec.with_json()
    if chosen is None:
        pytest.skip("msgspec is not installed here")
    monkeypatch.setattr(codec, "fastest", lambda: chosen)
    return chosen

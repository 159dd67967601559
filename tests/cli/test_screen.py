"""Data on standard output, whatever its encoding."""

import io
import sys

from pexen.cli.screen import write_out


def test_data_that_the_encoding_lacks_is_escaped(capsys, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write_out("pläne ├── \udcff\n")
    sys.stdout.flush()
    assert raw.getvalue() == b"pl\\xe4ne \\u251c\\u2500\\u2500 \\udcff\n"

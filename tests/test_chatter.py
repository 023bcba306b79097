import os

import pytest

from app.chatter import held_back

CHATTER = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795661904.450073   26462 port.cc:153] oneDNN custom operations are on.
To enable the following instructions: AVX2 AVX512F, rebuild TensorFlow.
"""


def test_only_chatter_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before\n")
    with held_back():
        os.write(2, f"one\n{CHATTER}two\n".encode())
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\none\ntwo\nafter\n"


def test_what_was_written_before_a_failure_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with held_back():
            os.write(2, b"what went wrong\n")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "what went wrong\n"

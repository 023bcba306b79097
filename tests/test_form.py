import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from app.api.form import _PLAIN, _disposition

NAMES = st.text(st.characters(codec="latin-1"), max_size=20).map(lambda text: text.encode("latin-1"))


def as_the_standard_has_it(value: bytes) -> tuple[bytes, bool]:
    _, options = parse_options_header(value)
    return options.get(b"name", b""), b"filename" in options


@pytest.mark.parametrize(
    "value",
    [
        b'form-data; name="file"; filename="a.png"',
        b'form-data; name="file"',
        b'form-data; name="file"; filename=""',
        b"form-data; name=file; filename=a.png",
        b'form-data; filename="a.png"; name="file"',
        b"form-data; name=\"file\"; filename*=UTF-8''a.png",
        b'form-data; name="file"; filename="C:\\pictures\\a.png"',
        b'form-data; name="fi\\"le"; filename="a;b.png"',
        b"attachment",
        b"",
    ],
)
def test_the_quick_way_to_read_a_field_gives_what_the_whole_one_gives(value: bytes) -> None:
    assert _disposition(value) == as_the_standard_has_it(value)


@given(name=NAMES, filename=NAMES)
def test_whatever_the_names(name: bytes, filename: bytes) -> None:
    value = b'form-data; name="%b"; filename="%b"' % (name, filename)
    if _PLAIN.fullmatch(value):
        assert _disposition(value) == as_the_standard_has_it(value)

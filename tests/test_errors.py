import re

from app import errors
from app.errors import ServiceError


def descendants(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [kind] + [below for child in kind.__subclasses__() for below in descendants(child)]


def depth(kind: type[ServiceError]) -> int:
    return kind.__mro__.index(ServiceError)


def test_the_tree_in_the_documentation_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"^ {4}([ │├└─]*)(\w+Error)", errors.__doc__ or "", re.MULTILINE)
    assert [(name, len(branch) // 4) for branch, name in drawn] == [
        (kind.__name__, depth(kind)) for kind in descendants(ServiceError)
    ]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in descendants(ServiceError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)

"""docs/api.md says what is accepted and refused; this sends every sample that its tables name."""

import re
from pathlib import Path
from typing import NamedTuple

import corpus
import httpx2 as httpx
import pytest

from app.imaging import FORMATS
from app.picture_formats import TIFF

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/api.md"


class Accepted(NamedTuple):
    sample: str
    format: str
    notes: list[str]


class Refused(NamedTuple):
    sample: str
    status: int
    code: str


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its two head lines."""
    section = re.split(rf"^### {heading}$", DOCUMENT.read_text(), flags=re.MULTILINE)[1]
    lines = [
        line for line in re.split(r"^##", section, flags=re.MULTILINE)[0].splitlines() if line[:1] == "|"
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ACCEPTED = [
    Accepted(sample, form, names(notes))
    for form, _, notes, samples in rows("What is accepted")
    for sample in names(samples)
]
REFUSED = [
    Refused(sample, int(status), *names(code))
    for _, status, code, samples in rows("What is refused")
    for sample in names(samples)
]


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row.sample)
def test_what_is_accepted_is_answered(client: httpx.Client, row: Accepted) -> None:
    if row.format not in FORMATS:
        pytest.skip(f"this Pillow does not read {row.format}")
    answer = client.post("/predict", files={"file": corpus.sample(row.sample)})
    assert answer.status_code == 200
    assert answer.json()["image"]["format"] == row.format
    assert answer.json()["image"]["notes"] == row.notes


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.sample)
def test_what_is_refused_is_refused_as_the_table_says(client: httpx.Client, row: Refused) -> None:
    answer = client.post(
        "/predict", content=corpus.sample(row.sample), headers={"Content-Type": "application/octet-stream"}
    )
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (row.status, row.status, row.code)
    assert ("limit" in problem) == (row.code in ("body_too_large", "image_too_large", "image_too_complex"))


def test_the_tables_and_the_corpus_name_the_same_samples() -> None:
    assert {row.sample for row in ACCEPTED if row.format in FORMATS} == set(corpus.GOOD)
    assert {row.sample: row.code for row in REFUSED} == {
        name: code for name, (_, code) in (corpus.REFUSED | corpus.UPLOADS).items()
    }


def test_every_format_that_is_decoded_stands_in_the_table() -> None:
    assert {form for form, *_ in rows("What is accepted")} >= {*FORMATS, TIFF}

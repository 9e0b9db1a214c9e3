"""Names, types and links of artifacts: what a stranger may give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.core.artifacts import MAX_NAME_CHARS, check_artifact_id, check_link, check_name, choose_content_type
from runcast.errors import InvalidInputError

BAD_NAMES = [
    "",
    ".",
    "..",
    "../up",
    "/etc/passwd",
    "a/b",
    "a\\b",
    " a",
    "a ",
    "a\n",
    "a\r\nset-cookie: x",
    "a\0b",
    "a\x7fb",
    "\ud800",
    "report\u202egnp.exe",
    "line\u2028break",
    "a" * (MAX_NAME_CHARS + 1),
]
GOOD_NAMES = [
    "report.pdf",
    "Übersicht (1).csv",
    "報告.xlsx",
    "👩‍🚀.png",
    'a "b".txt',
    "a%2Fb;c='d'",
    ".env",
    "a" * MAX_NAME_CHARS,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_mean_something_are_refused(name: str) -> None:
    """To a file system, to a header, or to the eye."""
    with pytest.raises(InvalidInputError) as caught:
        check_name(name)
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", GOOD_NAMES, ids=ascii)
def test_other_names_are_peoples_own(name: str) -> None:
    """In whichever script."""
    check_name(name)


@pytest.mark.parametrize("artifact_id", ["", "../a", "a/b", "a b", "a" * 65, "ä"])
def test_an_id_is_fit_for_a_path(artifact_id: str) -> None:
    """It is part of a file's name."""
    with pytest.raises(InvalidInputError):
        check_artifact_id(artifact_id)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//host/x",
        "/x",
        "https://",
        "http://a b",
        "http://a\n",
        "http://[::1",
        "https://ä.example",
        "https://x/" + "a" * 2_000,
    ],
)
def test_links_lead_to_the_web(url: str) -> None:
    """They are shown to be clicked at."""
    with pytest.raises(InvalidInputError):
        check_link(url)


def test_a_link_of_the_web_may_be() -> None:
    """Secure or not."""
    check_link("https://example.org/a?b=c#d")
    check_link("http://localhost:8000/")


@pytest.mark.parametrize(
    ("name", "given_type", "expected"),
    [
        ("a.pdf", None, "application/pdf"),
        ("a.csv", None, "text/csv; charset=utf-8"),
        ("a.html", None, "text/html; charset=utf-8"),
        ("A.PNG", None, "image/png"),
        ("a.csv.gz", None, "application/gzip"),
        ("a", None, "application/octet-stream"),
        ("data:text/html,a", None, "application/octet-stream"),
        ("a.pdf", "text/plain; charset=latin-1", "text/plain; charset=latin-1"),
    ],
)
def test_the_type_is_the_one_given_or_the_names(name: str, given_type: str | None, expected: str) -> None:
    """The same on every machine."""
    assert choose_content_type(name, given_type) == expected


@pytest.mark.parametrize("content_type", ["", "text", "text/", "text/plain\r\nx: y", "text/plain; a", "a/b/c", "ä/b"])
def test_what_is_no_type_is_refused(content_type: str) -> None:
    """It becomes a header."""
    with pytest.raises(InvalidInputError):
        choose_content_type("a", content_type)


@given(st.text(max_size=250))
def test_a_name_that_passes_can_be_written_anywhere(name: str) -> None:
    """Whatever it is: no control, no separator, and it is text."""
    try:
        check_name(name)
    except InvalidInputError:
        return
    assert name.encode()
    assert not set(name) & set("/\\\0\r\n")
    assert choose_content_type(name, None).isascii()

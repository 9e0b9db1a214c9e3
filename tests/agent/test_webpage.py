"""Reading web pages: what is kept of them, and that nothing about them can do harm."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from runcast.agent.inputs import WebPage
from runcast.agent.tools.webpage import MAX_PAGE_BYTES, MAX_TEXT_CHARS, WebPageTool
from runcast.errors import AddressForbiddenError, ServiceRefusedError, ToolError
from runcast.tools import Risk
from tests.support.service import serve

WORDS = "Redis keeps a stream of entries, and each of them has an id that grows. " * 5
ARTICLE = f"""<!doctype html><html><head><title>Streams</title><style>b {{color: red}}</style></head><body>
<nav><a href="/a">Home</a><a href="/b">Shop</a></nav><script>alert("no")</script>
<article><h1>Streams</h1><p>{WORDS}</p>
<p>See <a href="https://example.com/more">more</a> of it, &amp; enjoy.</p></article>
<footer>Cookies! Newsletter!</footer></body></html>"""


async def article(_: Request) -> Response:
    return HTMLResponse(ARTICLE)


async def short(_: Request) -> Response:
    return HTMLResponse("<p>Hello <b>you</b>")


async def long(_: Request) -> Response:
    return HTMLResponse("<p>" + "word " * (MAX_PAGE_BYTES // 4))


async def tangled(_: Request) -> Response:
    return HTMLResponse("<div>" * 100_000 + "deep")


async def plain(_: Request) -> Response:
    return PlainTextResponse("as it is")


async def picture(_: Request) -> Response:
    return Response(b"\x89PNG", media_type="image/png")


async def nothing(_: Request) -> Response:
    return HTMLResponse("")


async def moved(_: Request) -> Response:
    return RedirectResponse("/short")


async def gone(_: Request) -> Response:
    return HTMLResponse("gone", 410)


PAGES = (article, short, long, tangled, plain, picture, nothing, moved, gone)
SITE = Starlette(routes=[Route(f"/{page.__name__}", page) for page in PAGES])


async def read(page: str, *, allow_private: bool = True) -> Any:
    tool = WebPageTool(allow_private=allow_private, max_event_bytes=1_048_576)
    async with serve(SITE) as base_url:
        return await tool.call(WebPage(url=f"{base_url}/{page}"), lambda *_: None)


async def test_a_page_is_read_as_people_do() -> None:
    """What it is about is kept with its title and links; menus, scripts and footers aren't."""
    output = await read("article")
    assert output["title"] == "Streams"
    assert WORDS.strip() in output["text"]
    assert "https://example.com/more" in output["text"]
    assert "& enjoy" in output["text"]
    assert not any(word in output["text"] for word in ("alert", "Shop", "color", "<p>"))
    assert output["truncated"] is False


async def test_a_page_of_few_words_is_read_whole() -> None:
    """Where nothing tells the text from the rest, all of it is text; a redirect leads there."""
    output = await read("moved")
    assert " ".join(output["text"].split()) == "Hello you"
    assert output["url"].endswith("/short")


async def test_plain_text_is_as_it_is() -> None:
    """Not every page is HTML."""
    assert (await read("plain"))["text"] == "as it is"


async def test_an_empty_page_has_no_text() -> None:
    """That is no error."""
    assert (await read("nothing"))["text"] == ""


async def test_a_long_page_is_cut_and_says_so() -> None:
    """Neither the bytes that are read nor the text that is kept pass their limits."""
    output = await read("long")
    assert (len(output["text"]) <= MAX_TEXT_CHARS, output["truncated"]) == (True, True)


async def test_a_tangled_page_does_no_harm() -> None:
    """A page that is nested a hundred thousand deep is read as far as it goes, or refused."""
    assert isinstance((await read("tangled"))["text"], str)


async def test_what_is_no_text_is_refused() -> None:
    """A picture has nothing to read, and the message says what it is."""
    with pytest.raises(ToolError, match="image/png, which has no text to read"):
        await read("picture")


async def test_a_status_of_400_or_more_fails() -> None:
    """An error's page isn't taken for the page."""
    with pytest.raises(ServiceRefusedError, match="status 410"):
        await read("gone")


async def test_it_goes_only_where_the_http_tool_may() -> None:
    """A private address is refused."""
    with pytest.raises(AddressForbiddenError):
        await read("short", allow_private=False)


def test_reading_is_reading() -> None:
    """Its risk is that of asking."""
    tool = WebPageTool(allow_private=False, max_event_bytes=1_048_576)
    assert tool.risk_of(WebPage(url="https://example.com")) is Risk.READ

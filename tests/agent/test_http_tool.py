"""The HTTP tool: where it may go, what it keeps of an answer, and that a name can't change after its check."""

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from runcast.agent.inputs import HttpRequest
from runcast.agent.tools.addresses import is_public
from runcast.agent.tools.connection import CheckedTransport, send
from runcast.agent.tools.http import MAX_BODY_BYTES, HttpTool
from runcast.errors import AddressForbiddenError, OutcomeUnknownError, ServiceRefusedError, ToolError
from runcast.tools import Risk
from tests.support.certificate import make_certificate
from tests.support.service import serve

ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


async def echo(request: Request) -> Response:
    body = (await request.body()).decode()
    return JSONResponse({"method": request.method, "body": body, "headers": dict(request.headers)})


async def say(request: Request) -> Response:
    size = int(request.query_params.get("size", "0"))
    return Response(b"x" * size, int(request.query_params.get("status", "200")), media_type="text/plain")


async def hop(request: Request) -> Response:
    left = int(request.path_params["left"])
    return RedirectResponse(f"/hop/{left - 1}") if left else PlainTextResponse("there")


async def away(request: Request) -> Response:
    return RedirectResponse(request.query_params["to"])


async def strange(_: Request) -> Response:
    return Response(b"\x00\xff caf\xe9", headers={"content-type": "text/plain; charset=zip"})


async def compressed(_: Request) -> Response:
    return Response(b"\x1f\x8b", headers={"content-encoding": "gzip"})


async def broken(_: Request) -> Response:
    return Response(b"x", headers={"content-length": "100"})


SITE = Starlette(
    routes=[
        Route("/echo", echo, methods=ALL_METHODS),
        Route("/say", say),
        Route("/hop/{left}", hop),
        Route("/away", away),
        Route("/strange", strange),
        Route("/compressed", compressed),
        Route("/broken", broken, methods=["GET", "POST"]),
    ]
)


async def request(url: str, method: str = "GET", body: str | None = None, *, allow_private: bool = True) -> Any:
    tool = HttpTool(allow_private=allow_private, max_event_bytes=1_048_576)
    return await tool.call(HttpRequest(method=method, url=url, body=body), lambda *_: None)  # type: ignore[arg-type] # the model checks


async def test_each_method_is_sent_as_it_was_typed() -> None:
    """Method and body arrive as the prompt has them, with nothing from this machine's surroundings."""
    async with serve(SITE) as base_url:
        for method in ALL_METHODS:
            output = await request(f"{base_url}/echo", method)
            assert output["status"] == 200
        output = await request(f"{base_url}/echo", "POST", '{"a":  1.0}')
    assert '"method":"POST","body":"{\\"a\\":  1.0}"' in output["body"]
    assert '"user-agent":"runcast"' in output["body"]
    assert output["contentType"] == "application/json"


async def test_answers_are_kept_up_to_a_limit() -> None:
    """An answer of the limit's size is kept whole, a longer one is cut and says so."""
    async with serve(SITE) as base_url:
        whole = await request(f"{base_url}/say?size={MAX_BODY_BYTES}")
        cut = await request(f"{base_url}/say?size={MAX_BODY_BYTES + 1}")
    assert (whole["bytes"], whole["truncated"]) == (MAX_BODY_BYTES, False)
    assert (cut["bytes"], cut["truncated"], len(cut["body"])) == (MAX_BODY_BYTES, True, MAX_BODY_BYTES)


async def test_answers_that_are_not_plain_text() -> None:
    """Bytes that are no text, or compressed against our wish, don't harm; no NUL comes through."""
    async with serve(SITE) as base_url:
        assert (await request(f"{base_url}/strange"))["body"] == "\ufffd\ufffd caf\ufffd"
        assert (await request(f"{base_url}/compressed"))["body"] == "(not shown: encoded as gzip)"


async def test_a_status_of_400_or_more_fails() -> None:
    """An answer that is a no becomes an error with its status and first words."""
    async with serve(SITE) as base_url:
        with pytest.raises(ServiceRefusedError, match=r"127.0.0.1 refused with status 503: “xxx”; trying again later"):
            await request(f"{base_url}/say?size=3&status=503")


async def test_redirects_are_followed_five_times() -> None:
    """Five redirects are followed, the sixth is an error."""
    async with serve(SITE) as base_url:
        output = await request(f"{base_url}/hop/5")
        assert (output["body"], output["url"]) == ("there", f"{base_url}/hop/0")
        with pytest.raises(ToolError, match="redirects more than 5 times"):
            await request(f"{base_url}/hop/6")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://a.example/"])
async def test_redirects_stay_on_the_web(target: str) -> None:
    """A redirect to anything but http and https is refused."""
    async with serve(SITE) as base_url:
        with pytest.raises(ToolError, match="not an http or https URL"):
            await request(f"{base_url}/away?to={target}")


async def test_a_broken_answer_tells_whether_to_look_first() -> None:
    """A GET that broke may be tried again; a POST that broke may have taken effect."""
    async with serve(SITE) as base_url:
        with pytest.raises(ToolError, match=r"broke the connection .*; trying again later may work"):
            await request(f"{base_url}/broken")
        with pytest.raises(OutcomeUnknownError, match="look there first"):
            await request(f"{base_url}/broken", "POST")


async def test_silence_ends() -> None:
    """A server that never answers costs a bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ToolError, match="the server did not answer in time; trying again later may work"):
            await send(
                CheckedTransport(allow_private=True),
                httpx.Request("GET", url),
                service="the server",
                is_repeatable=True,
                max_body_bytes=1,
                total_seconds=0.2,
            )


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"],
)
async def test_private_hosts_are_refused(host: str) -> None:
    """Without permission no spelling of a private address is connected to."""
    async with serve(SITE) as base_url:
        port = base_url.rpartition(":")[2]
        with pytest.raises(AddressForbiddenError, match="RUNCAST_HTTP_ALLOW_PRIVATE=true"):
            await request(f"http://{host}:{port}/say", allow_private=False)


async def test_a_redirect_to_a_private_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hop is checked: a public host can't send the tool to a private one."""
    monkeypatch.setattr("runcast.agent.tools.connection.is_public", lambda address: str(address) == "127.0.0.1")
    async with serve(SITE) as base_url:
        assert (await request(f"{base_url}/say", allow_private=False))["status"] == 200
        with pytest.raises(AddressForbiddenError, match=r"10.0.0.1 has the address 10.0.0.1"):
            await request(f"{base_url}/away?to=http://10.0.0.1/", allow_private=False)


async def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one connected to, whatever the name says a moment later."""
    answers = ["127.0.0.1", "10.0.0.1"]
    asked: list[str] = []

    async def look_up(host: str, port: int | None, **_: Any) -> list[Any]:
        asked.append(host)
        return [(None, None, None, "", (answers[len(asked) - 1], port))]

    async with serve(SITE) as base_url:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        output = await request(base_url.replace("127.0.0.1", "changing.example") + "/echo")
    assert asked == ["changing.example"]
    assert '"host":"changing.example:' in output["body"]


async def test_the_certificate_is_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS the certificate must be the name's, though the connection goes to an address."""
    certificate, key = make_certificate(tmp_path, name="DNS:good.example")

    async def look_up(_: str, port: int | None, **__: Any) -> list[Any]:
        return [(None, None, None, "", ("127.0.0.1", port))]

    async def get(url: str) -> int:
        transport = CheckedTransport(allow_private=True, tls=ssl.create_default_context(cafile=certificate))
        asked = httpx.Request("GET", url)
        answer = await send(transport, asked, service="it", is_repeatable=True, max_body_bytes=1)
        return answer.status

    async with serve(SITE, ssl_certfile=certificate, ssl_keyfile=key) as base_url:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        assert await get(base_url.replace("127.0.0.1", "good.example") + "/say") == 200
        with pytest.raises(ToolError, match=r"it can't be reached: .*certificate"):
            await get(base_url.replace("127.0.0.1", "evil.example") + "/say")


async def test_a_host_that_does_not_exist() -> None:
    """A name without an address is an error that says so."""
    with pytest.raises(ToolError, match="can't be looked up; is its name right"):
        await request(f"http://{'x' * 64}.invalid/")


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"),
    ],
)
def test_public_addresses(address: str) -> None:
    """Addresses of the public internet may be reached, also by way of a translation."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
        ),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "100.100.100.200", "168.63.129.16"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """No loopback, private, link-local, shared, reserved, multicast or metadata address is, nor what carries one."""
    assert not is_public(ipaddress.ip_address(address))


def test_methods_have_their_risk() -> None:
    """Reading is told from writing, and writing that may be repeated from what must not be."""
    tool = HttpTool(allow_private=False, max_event_bytes=1_048_576)
    risks = [tool.risk_of(HttpRequest(method=method, url="https://a.example")) for method in ALL_METHODS]  # type: ignore[arg-type] # the model checks
    assert risks == [Risk.READ, Risk.READ, Risk.PUBLISH, Risk.WRITE, Risk.PUBLISH, Risk.WRITE]

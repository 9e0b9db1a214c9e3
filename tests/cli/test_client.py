"""The Python client against a real server that drops connections, repeats, skips and goes back."""

from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from runcast.client import ControlEvent, RuncastClient
from runcast.errors import (
    ConfigurationError,
    ForbiddenOriginError,
    InvalidInputError,
    RuncastError,
    RunNotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from runcast.events import RunEvent
from tests.cli.gateway import RUN_ID, Gateway, Script, connected, ended, event, gateway, sends, stays_silent


def client_of(server: Gateway, *, silence_seconds: float = 10, patience_seconds: float = 10) -> RuncastClient:
    return RuncastClient(
        server.url, silence_seconds=silence_seconds, patience_seconds=patience_seconds, jitter=lambda: 0.0
    )


async def watch(*scripts: Script, after: str | None = None, silence_seconds: float = 10) -> tuple[list[str], list[str]]:
    """What a watcher sees, as cursors, and the cursors its connections asked for."""
    async with gateway(*scripts) as server, client_of(server, silence_seconds=silence_seconds) as client:
        seen = [str(one.cursor) async for one in client.watch(RUN_ID, after=after)]
        return seen, server.cursors


async def test_events_come_in_order_and_the_watch_ends_with_the_run() -> None:
    """Frames may hold one event or several; after the last event there is nothing."""
    seen, cursors = await watch(sends(connected(), event(1), f"{event(2)}\n{event(3)}\n{ended(4)}"))
    assert seen == ["1-1", "1-2", "1-3", "1-4"]
    assert cursors == ["0-0"]


async def test_a_torn_connection_is_resumed_from_the_last_event() -> None:
    """The next connection asks for what comes after the last event seen."""
    seen, cursors = await watch(
        sends(connected(), event(1), event(2), close=None),
        sends(connected(), close=(1012, "restarting")),
        sends(connected(), event(3), ended(4)),
    )
    assert seen == ["1-1", "1-2", "1-3", "1-4"]
    assert cursors == ["0-0", "1-2", "1-2"]


async def test_a_repeated_event_is_seen_once() -> None:
    """What came before is dropped."""
    seen, _ = await watch(sends(connected(), event(1), event(2), event(1), event(2), ended(3)))
    assert seen == ["1-1", "1-2", "1-3"]


async def test_a_skipped_event_is_fetched() -> None:
    """An event that comes too early is not shown: the client connects again before the hole."""
    seen, cursors = await watch(
        sends(connected(), f"{event(1)}\n{event(2)}\n{event(4)}", event(5)), sends(event(3), event(4), ended(5))
    )
    assert seen == ["1-1", "1-2", "1-3", "1-4", "1-5"]
    assert cursors == ["0-0", "1-2"]


async def test_a_silent_connection_is_given_up() -> None:
    """Without a frame for the silence time, heartbeats included, the connection is dead."""
    seen, cursors = await watch(stays_silent_after(event(1)), sends(ended(2)), silence_seconds=0.1)
    assert seen == ["1-1", "1-2"]
    assert cursors == ["0-0", "1-1"]


async def test_a_rewind_moves_back() -> None:
    """Events that were lost by everybody are replaced by those of the next attempt."""
    rewind = '{"type":"rewind","payload":{"to":"1"},"ts":"","runId":"run-1"}'
    seen, _ = await watch(sends(connected(), event(1), event(2), rewind, event(2, attempt=2), ended(3, attempt=2)))
    assert seen == ["1-1", "1-2", "2-2", "2-3"]


async def test_a_frame_that_is_not_an_event_counts_as_a_lost_connection() -> None:
    """Nothing of a frame with rubbish in it is lost: it is asked for again."""
    seen, cursors = await watch(sends(f"{event(1)}\nrubbish"), sends(event(1), ended(2)))
    assert seen == ["1-1", "1-2"]
    assert cursors == ["0-0", "0-0"]


async def test_a_finished_run_with_nothing_new_ends_at_once() -> None:
    """A cursor at the end of the log gets the goodbye and no event."""
    seen, cursors = await watch(sends(connected(4)), after="1-4")
    assert seen == []
    assert cursors == ["1-4"]


async def test_control_frames_come_only_if_asked_for() -> None:
    """With `control` the connection's own frames stand between the events."""
    async with gateway(sends(connected(), ended(1))) as server, client_of(server) as client:
        kinds = [type(one) async for one in client.watch(RUN_ID, control=True)]
    assert [ControlEvent, RunEvent] == kinds


@pytest.mark.parametrize(
    ("code", "kind"),
    [(4404, RunNotFoundError), (4401, UnauthorizedError), (4400, InvalidInputError)],
)
async def test_a_refusal_is_an_error_and_not_tried_again(code: int, kind: type[RuncastError]) -> None:
    """Close codes that won't change are raised as what they mean."""
    async with gateway(sends(close=(code, "no"))) as server, client_of(server) as client:
        with pytest.raises(kind):
            await anext(client.watch(RUN_ID))
        assert len(server.cursors) == 1


async def test_a_refused_handshake_is_an_error() -> None:
    """A key that is missing may be told before the WebSocket is open."""
    async with gateway() as server, client_of(server) as client:
        server.answers[f"/ws/runs/{RUN_ID}"] = (401, {})
        with pytest.raises(UnauthorizedError):
            await anext(client.watch(RUN_ID))


async def test_a_server_that_never_answered_is_not_waited_for() -> None:
    """Nobody there at the first try: that is told at once."""
    async with gateway() as server:
        pass
    async with client_of(server) as client:
        with pytest.raises(UnavailableError, match="can't be reached"):
            await anext(client.watch(RUN_ID))
        with pytest.raises(UnavailableError, match="can't be reached"):
            await client.get_stats()


async def test_patience_ends() -> None:
    """A server that is gone for longer than the patience is given up."""
    script = sends(event(1), close=None)
    async with gateway(script) as server, client_of(server, patience_seconds=0) as client:
        with pytest.raises(UnavailableError, match="can't be reached"):
            _ = [one async for one in client.watch(RUN_ID)]


async def test_requests_carry_the_key_and_answers_are_typed() -> None:
    """A run is asked for with the key in the header."""
    async with gateway() as server, RuncastClient(server.url, api_key="secret") as client:
        server.answers["/runs/stats"] = (200, {"activeConnections": 2})
        assert await client.get_stats() == {"activeConnections": 2}
        assert server.headers[-1]["Authorization"] == "Bearer secret"


async def test_headers_of_ones_own_go_with_requests_and_sockets() -> None:
    """Where the gateway is part of an application, they are what signs a client in."""
    own = {"x-user": "ada", "Cookie": "session=1"}
    async with gateway(sends(connected(1), ended(1))) as server, RuncastClient(server.url, headers=own) as client:
        server.answers["/runs/stats"] = (200, {})
        await client.get_stats()
        assert [one.seq async for one in client.watch(RUN_ID)] == [1]
        seen = [(headers["X-User"], headers["Cookie"]) for headers in server.headers]
    assert seen == [("ada", "session=1")] * 2


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x user": "a"}, "'x user' is not the name of a header"),
        ({"": "a"}, "'' is not the name of a header"),
        ({"Host": "a"}, "'Host' is not the name of a header that can be given"),
        ({"Sec-WebSocket-Key": "a"}, "'Sec-WebSocket-Key' is not the name"),
        ({"x-user": "sesam\r\nx-admin: 1"}, "the value of 'x-user' is not ASCII without line breaks"),
        ({"x-user": "sesam\N{BULLET}"}, "the value of 'x-user'"),
        ({"authorization": "Basic sesam"}, "the API key or an Authorization header, not both"),
    ],
)
def test_a_header_that_can_not_be_sent_is_refused(headers: dict[str, str], reason: str) -> None:
    """At once and by name; its value is nobody's business."""
    with pytest.raises(ConfigurationError, match=reason) as refused:
        RuncastClient(headers=headers, api_key="k")
    assert "sesam" not in str(refused.value)


async def test_headers_stay_with_the_server_they_are_for() -> None:
    """A redirect is an answer like another, not somebody to introduce oneself to."""
    asked: list[str] = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "")
        response.headers["Location"] = "/elsewhere"
        return response

    async with serve(ServerConnection.wait_closed, "127.0.0.1", 0, process_request=redirect) as server:
        url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with RuncastClient(url, headers={"x-user": "ada"}) as client:
            with pytest.raises(UnavailableError, match="HTTP 307"):
                await anext(client.watch(RUN_ID))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"code": "unauthorized", "title": "t", "detail": "sign in first"}, UnauthorizedError, "sign in first"),
        (403, {"code": "forbidden", "title": "t", "detail": "guests may look"}, RuncastError, "guests may look"),
        (403, {"code": "forbidden_origin", "detail": "not served"}, ForbiddenOriginError, "not served"),
        (401, {"detail": "Not authenticated"}, UnauthorizedError, "Not authenticated"),
        (403, "no", ForbiddenOriginError, "doesn't answer to this address or key"),
    ],
)
async def test_who_is_turned_away_hears_why(status: int, body: object, kind: type[RuncastError], words: str) -> None:
    """In the server's own words, from a request as from a socket."""
    async with gateway() as server, client_of(server) as client:
        server.answers |= {"/runs/x": (status, body), f"/ws/runs/{RUN_ID}": (status, body)}
        for asking in (client.get_run("x"), anext(client.watch(RUN_ID))):
            with pytest.raises(kind, match=words) as refused:
                await asking
            assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("status", "problem", "kind"),
    [
        (404, {"title": "t", "detail": "no run has the id 'x'", "code": "run_not_found"}, RunNotFoundError),
        (413, {"title": "t", "detail": "no run has the id 'x'", "code": "too_large"}, TooLargeError),
        (418, {"title": "t", "detail": "no run has the id 'x'", "code": "of_tomorrow"}, RuncastError),
    ],
)
async def test_problems_become_our_errors(status: int, problem: object, kind: type[RuncastError]) -> None:
    """The server's code decides the class, its detail is the message."""
    async with gateway() as server, client_of(server) as client:
        server.answers["/runs/x"] = (status, problem)
        with pytest.raises(kind, match="no run has the id 'x'"):
            await client.get_run("x")


async def test_an_answer_that_is_not_runcasts_is_told() -> None:
    """Another server at the address is no crash."""
    async with gateway() as server, client_of(server) as client:
        with pytest.raises(UnavailableError, match="not a Runcast server"):
            await client.get_run("x")


def test_an_address_that_is_none_is_refused() -> None:
    """The client says what is wrong with its address."""
    with pytest.raises(ConfigurationError, match="RUNCAST_URL"):
        RuncastClient("localhost:3000")


@pytest.mark.parametrize("address", ["http://localhost/live?key=sesam", "http://localhost/#sesam", "http://localhost?"])
def test_an_address_with_a_query_is_refused(address: str) -> None:
    """Paths are appended to it; and what is asked there may be a secret, so it isn't repeated."""
    with pytest.raises(ConfigurationError, match="leave out") as refused:
        RuncastClient(address)
    assert "sesam" not in str(refused.value)


async def test_either_a_prompt_or_a_runner() -> None:
    """Both or none is the caller's mistake, told without a request."""
    async with RuncastClient() as client:
        with pytest.raises(InvalidInputError, match="either a prompt or a runner"):
            await client.create_run()


def stays_silent_after(frame: str) -> Script:
    async def script(connection: ServerConnection, cursor: str) -> None:
        await connection.send(frame)
        await stays_silent(connection, cursor)

    return script

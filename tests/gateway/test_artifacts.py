"""What runs make, from where it is kept to a browser: the route of the real server, over the real stores."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from runcast import Runcast
from runcast.assembly import utc_now
from runcast.backends.artifacts import open_artifacts
from runcast.backends.sql import SqlRunStore, open_store
from runcast.errors import InvalidInputError, TooLargeError, UnavailableError
from runcast.events import RunStatus
from runcast.records import Artifact, Commit
from runcast.services.artifacts import ArtifactService, memo_of, told_of
from tests.support.s3_server import S3Server, start_s3, without_credentials
from tests.support.stack import Stack, start_stack

LIMIT = 9 * 1024 * 1024


class Maker:
    """A worker's hand on one run: what it makes is committed as the worker would do it."""

    def __init__(self, run_id: str, store: SqlRunStore, service: ArtifactService, folder: Path) -> None:
        self.run_id = run_id
        self.store = store
        self.service = service
        self.folder = folder
        self.count = 0

    async def add(self, name: str, **source: Any) -> Artifact:
        """Keep something without committing it."""
        self.count += 1
        return await self.service.add(self.run_id, f"artifact-{self.count}", name, others=self.count - 1, **source)

    async def make(self, name: str, **source: Any) -> Artifact:
        artifact = await self.add(name, **source)
        await self.store.commit(Commit(run_id=self.run_id, attempt=1, events=(), memos=(memo_of(artifact),)))
        return artifact


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture
async def stack(redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """A server without workers."""
    app = Runcast()
    async with start_stack(
        app, redis_url=redis_url, data_dir=tmp_path, max_artifact_bytes=LIMIT, max_artifacts=3
    ) as one:
        await one.stop_worker()
        yield one


@pytest.fixture
async def maker(stack: Stack, tmp_path: Path) -> AsyncIterator[Maker]:
    async for made in make_maker(stack, tmp_path):
        yield made


async def make_maker(stack: Stack, folder: Path) -> AsyncIterator[Maker]:
    store = await open_store(stack.settings.database)
    service = ArtifactService(
        artifacts=open_artifacts(stack.settings.artifacts),
        store=store,
        make_token=lambda: os.urandom(8).hex(),
        max_bytes=stack.settings.max_artifact_bytes,
        max_per_run=stack.settings.max_artifacts,
    )
    created = await stack.http.post("/runs", json={"prompt": "wait 1 second"})
    run_id = created.json()["runId"]
    claim = await store.claim_run(run_id, "w", now=utc_now())
    assert claim is not None
    assert claim.run.status is RunStatus.RUNNING
    yield Maker(run_id, store, service, folder)
    await store.close()


async def test_a_file_comes_back_as_it_was(stack: Stack, maker: Maker) -> None:
    """Its bytes, its type, its length, its name, and its checksum as the tag."""
    content = os.urandom(3 * 1024 * 1024 + 7)
    file = maker.folder / "large"
    file.write_bytes(content)
    artifact = await maker.make("Übersicht.png", path=file)
    answer = await stack.http.get(artifact.url)
    sha256 = hashlib.sha256(content).hexdigest()
    assert (answer.status_code, answer.content == content) == (200, True)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["etag"] == f'"{sha256}"'
    assert (
        answer.headers["content-disposition"]
        == "inline; filename=\"_bersicht.png\"; filename*=UTF-8''%C3%9Cbersicht.png"
    )
    assert told_of(artifact) == {
        "artifactId": "artifact-1",
        "name": "Übersicht.png",
        "contentType": "image/png",
        "bytes": len(content),
        "url": f"/runs/{maker.run_id}/artifacts/artifact-1",
    }


async def test_nothing_of_it_can_do_harm(stack: Stack, maker: Maker) -> None:
    """A page is saved and not shown, and what is shown runs nothing."""
    page = await maker.make("a.html", data=b"<script>alert(1)</script>")
    text = await maker.make("a.txt", data=b"x")
    drawing = await maker.make("a.svg", data=b"<svg/>")
    for artifact, kind in ((page, "attachment"), (text, "inline"), (drawing, "attachment")):
        headers = (await stack.http.get(artifact.url)).headers
        assert headers["content-disposition"].startswith(f"{kind}; ")
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_a_hostile_name_stays_a_name(stack: Stack, maker: Maker) -> None:
    """It can't end the header's value or begin another."""
    artifact = await maker.make("a\"; filename*=UTF-8''b.html;%0d%0a'.txt", data=b"x")
    disposition = (await stack.http.get(artifact.url)).headers["content-disposition"]
    assert disposition == (
        "inline; filename=\"a__ filename*=UTF-8''b.html__0d_0a'.txt\"; "
        "filename*=UTF-8''a%22%3B%20filename%2A%3DUTF-8%27%27b.html%3B%250d%250a%27.txt"
    )


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 200, b"0123456789", None),
        ("bytes=0-", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
async def test_a_range_is_served(  # noqa: PLR0917 - fixtures and a row of the table
    stack: Stack, maker: Maker, asked: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    """One at a time; what isn't understood gets everything, what isn't there a problem."""
    artifact = await maker.make("a.bin", data=b"0123456789")
    answer = await stack.http.get(artifact.url, headers={"range": asked})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, content_range)
    if body is None:
        assert answer.json()["code"] == "range_not_satisfiable"
    else:
        assert answer.content == body


async def test_a_range_of_other_content_gets_all(stack: Stack, maker: Maker) -> None:
    """`If-Range` names what the client has the beginning of."""
    artifact = await maker.make("a.bin", data=b"0123456789")
    for tag, status in (('"other"', 200), (f'"{artifact.sha256}"', 206)):
        answer = await stack.http.get(artifact.url, headers={"range": "bytes=0-3", "if-range": tag})
        assert answer.status_code == status


async def test_what_the_client_has_is_not_sent_again(stack: Stack, maker: Maker) -> None:
    """By its tag, alone or among others."""
    artifact = await maker.make("a.bin", data=b"0123456789")
    for known in (f'"{artifact.sha256}"', f'"x", W/"{artifact.sha256}"', "*"):
        answer = await stack.http.get(artifact.url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")


async def test_head_tells_all_but_the_bytes(stack: Stack, maker: Maker) -> None:
    """The same headers."""
    artifact = await maker.make("a.bin", data=b"0123456789")
    head, got = await stack.http.head(artifact.url), await stack.http.get(artifact.url)
    drop = {"date"}
    assert head.content == b""
    assert {k: v for k, v in head.headers.items() if k not in drop} == {
        k: v for k, v in got.headers.items() if k not in drop
    }


async def test_an_artifact_is_not_compressed(stack: Stack, maker: Maker) -> None:
    """Its length and ranges are those of the bytes that are kept."""
    artifact = await maker.make("a.txt", data=b"a" * 100_000)
    answer = await stack.http.get(artifact.url, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == "100000"


async def test_an_empty_artifact_is_one(stack: Stack, maker: Maker) -> None:
    """Nothing, of a type."""
    artifact = await maker.make("a.csv", data=b"")
    answer = await stack.http.get(artifact.url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "text/csv; charset=utf-8")


async def test_a_link_leads_on(stack: Stack, maker: Maker) -> None:
    """Nothing is fetched: the reader is sent there."""
    artifact = await maker.make("elsewhere", url="https://example.org/a")
    assert told_of(artifact)["url"] == "https://example.org/a"
    answer = await stack.http.get(f"/runs/{maker.run_id}/artifacts/artifact-1")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://example.org/a")


@pytest.mark.parametrize("path", ["runs/{}/artifacts/artifact-9", "runs/none/artifacts/artifact-1"])
async def test_what_is_not_there_is_a_problem(stack: Stack, maker: Maker, path: str) -> None:
    """404, whether the run or only the artifact is unknown."""
    answer = await stack.http.get(f"/{path.format(maker.run_id)}")
    assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_paths_lead_nowhere_else(stack: Stack, maker: Maker) -> None:
    """Ids are looked up among the run's memos, and never become a path by themselves."""
    await maker.make("a.txt", data=b"x")
    for artifact_id in ("..%2Fartifact-1", "%2e%2e", "artifact-1%00", "*"):
        answer = await stack.http.get(f"/runs/{maker.run_id}/artifacts/{artifact_id}")
        assert answer.status_code == 404


async def test_what_was_not_committed_is_not_served(stack: Stack, maker: Maker) -> None:
    """A worker that dies between the bytes and the memo leaves nothing; the next one's are what is served."""
    lost = await maker.add("a.txt", data=b"of the dead")
    assert (await stack.http.get(lost.url)).status_code == 404
    maker.count = 0
    kept = await maker.make("a.txt", data=b"of the living")
    late = await maker.service.add(maker.run_id, "artifact-1", "a.txt", data=b"of a zombie")
    assert len({lost.place, kept.place, late.place}) == 3
    assert (await stack.http.get(kept.url)).content == b"of the living"


async def test_bytes_that_are_gone_are_a_problem(stack: Stack, maker: Maker) -> None:
    """Not an answer that breaks off."""
    artifact = await maker.make("a.txt", data=b"x")
    await maker.service.delete_run(maker.run_id)
    assert (await stack.http.get(artifact.url)).json()["code"] == "artifact_not_found"


async def test_limits_are_kept(maker: Maker) -> None:
    """Of size, from memory and from a file; and of number."""
    (maker.folder / "large").write_bytes(bytes(LIMIT + 1))
    for source in ({"data": bytes(LIMIT + 1)}, {"path": maker.folder / "large"}):
        with pytest.raises(TooLargeError, match="RUNCAST_MAX_ARTIFACT_BYTES"):
            await maker.service.add(maker.run_id, "a", "a", **source)
    await maker.service.add(maker.run_id, "a", "a", data=bytes(LIMIT), others=2)
    with pytest.raises(TooLargeError, match="RUNCAST_MAX_ARTIFACTS"):
        await maker.service.add(maker.run_id, "a", "a", data=b"", others=3)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs a file that is longer than it says")
async def test_a_file_that_grows_is_stopped_at_the_limit(stack: Stack, maker: Maker) -> None:
    """What counts is what was read, not what the file's size was."""
    artifacts = open_artifacts(stack.settings.artifacts)
    service = ArtifactService(
        artifacts=artifacts, store=maker.store, make_token=lambda: "token", max_bytes=10, max_per_run=1
    )
    with pytest.raises(TooLargeError):
        await service.add(maker.run_id, "a", "a", path=Path("/proc/self/status"))
    assert await artifacts.read(f"{maker.run_id}/a-token", 0, 1) is None


async def test_what_is_no_file_is_refused(maker: Maker) -> None:
    """A pipe would hold up its reader for ever."""
    os.mkfifo(maker.folder / "pipe")
    for path in (maker.folder, maker.folder / "pipe", maker.folder / "none"):
        with pytest.raises(InvalidInputError) as caught:
            await maker.add("a", path=path)
        assert caught.value.field == "path"


async def test_no_source_is_refused(maker: Maker) -> None:
    """There is nothing to keep."""
    with pytest.raises(InvalidInputError, match="data, path or url"):
        await maker.add("a")


async def test_a_key_is_asked_for(redis_url: str, tmp_path: Path) -> None:
    """As for all that tells of runs."""
    async with start_stack(Runcast(), redis_url=redis_url, data_dir=tmp_path, api_key="secret") as stack:
        assert (await stack.http.get("/runs/a/artifacts/b")).status_code == 401
        allowed = await stack.http.get("/runs/a/artifacts/b", headers={"authorization": "Bearer secret"})
        assert allowed.status_code == 404


async def test_a_bucket_serves_as_a_folder_does(
    s3_server: S3Server, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several requests for what is large; when it is away the answer says so."""
    for name in without_credentials():
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    content = os.urandom(7 * 1024 * 1024)
    (tmp_path / "large").write_bytes(content)
    async with start_stack(Runcast(), redis_url=redis_url, data_dir=tmp_path, artifacts_url=s3_server.url) as stack:
        await stack.stop_worker()
        async for maker in make_maker(stack, tmp_path):
            artifact = await maker.make("a.bin", path=tmp_path / "large")
            assert (await stack.http.get(artifact.url)).content == content
            part = await stack.http.get(artifact.url, headers={"range": "bytes=3000000-3000003"})
            assert part.content == content[3_000_000:3_000_004]
            await stack.http.delete(f"{s3_server.endpoint}/made-by-runs/of/tests/{artifact.place}")
            await stack.http.delete(f"{s3_server.endpoint}/made-by-runs")
            with pytest.raises(UnavailableError):
                await maker.make("b.bin", data=b"x")

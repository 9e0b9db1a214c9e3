"""`runcast doctor` looks at what the settings name, and says what to do where something isn't well."""

from pathlib import Path

import pytest

from runcast.assembly import migrate
from runcast.config import Settings
from runcast.doctor import Finding, examine
from tests.backends.test_redis_client import proxy_to
from tests.cli.processes import runcast
from tests.support.redis_cluster import RedisCluster, wait_until
from tests.support.stack import free_port


async def look(**settings: object) -> dict[str, Finding]:
    return {finding.part: finding for finding in await examine(Settings.load(**settings), environ={})}


async def test_a_sound_installation_is_called_well(redis_url: str, tmp_path: Path) -> None:
    """Database and Redis are there: the findings name them and the time of a round trip."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    found = await look(redis_url=redis_url, data_dir=tmp_path)
    assert [finding.is_well for finding in found.values()] == [True, True, True]
    assert found["database"].words.startswith("sqlite, 0 runs")
    assert "a round trip takes" in found["redis"].words


async def test_a_database_that_is_missing_is_named_with_what_makes_it(redis_url: str, tmp_path: Path) -> None:
    """The other parts are looked at all the same."""
    found = await look(redis_url=redis_url, data_dir=tmp_path)
    assert [finding.is_well for finding in found.values()] == [True, False, True]
    assert "runcast migrate" in found["database"].words


async def test_a_redis_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    """Nothing listens there: one line instead of a traceback."""
    found = await look(redis_url=f"redis://127.0.0.1:{free_port()}", data_dir=tmp_path)
    assert not found["redis"].is_well
    assert "can't be reached" in found["redis"].words


async def test_a_redis_that_evicts_is_refused(redis_url: str, tmp_path: Path) -> None:
    """A queue that drops entries when memory is full loses runs, so the policy is part of being fit."""
    from runcast.backends.redis_client import open_redis

    client = open_redis(redis_url)
    try:
        await client.config_set("maxmemory", "1gb")
        await client.config_set("maxmemory-policy", "allkeys-lru")
        found = await look(redis_url=redis_url, data_dir=tmp_path)
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "0")
        await client.aclose()
    assert not found["redis"].is_well
    assert "noeviction" in found["redis"].words


async def test_a_cluster_is_looked_at_as_a_whole(cluster_url: str, redis_cluster: RedisCluster, tmp_path: Path) -> None:
    """Every master has to be fit, and every slot to have one."""
    found = await look(redis_url=cluster_url, data_dir=tmp_path)
    assert found["redis"].is_well, found["redis"].words
    assert found["redis"].words.startswith("a cluster of 3 masters, ")
    last = redis_cluster.masters[-1]
    try:
        last.client.config_set("maxmemory", "1gb")
        last.client.config_set("maxmemory-policy", "allkeys-lru")
        found = await look(redis_url=cluster_url, data_dir=tmp_path)
    finally:
        last.client.config_set("maxmemory-policy", "noeviction")
        last.client.config_set("maxmemory", "0")
    assert not found["redis"].is_well
    assert "noeviction" in found["redis"].words


async def test_a_cluster_with_slots_that_nobody_owns_is_not_well(
    cluster_url: str, redis_cluster: RedisCluster, tmp_path: Path
) -> None:
    """Runs whose slot it is couldn't go on."""
    first = redis_cluster.masters[0]
    first.command("CLUSTER", "DELSLOTS", 0)
    try:
        wait_until(lambda: first.state["cluster_state"] == "fail", "it notices")
        found = await look(redis_url=cluster_url, data_dir=tmp_path)
    finally:
        first.command("CLUSTER", "ADDSLOTS", 0)
        wait_until(lambda: all(node.state["cluster_state"] == "ok" for node in redis_cluster.masters), "it is whole")
    assert not found["redis"].is_well
    assert "some slots have no master" in found["redis"].words


async def test_a_single_redis_is_no_cluster(redis_url: str, tmp_path: Path) -> None:
    """Nor is one that nobody listens at; each is said in one line."""
    async with proxy_to(redis_url) as proxy:
        found = await look(redis_url=f"redis+cluster://127.0.0.1:{proxy.port}", data_dir=tmp_path)
    assert not found["redis"].is_well
    assert "Cluster mode is not enabled" in found["redis"].words
    found = await look(redis_url=f"redis+cluster://127.0.0.1:{free_port()}", data_dir=tmp_path)
    assert "can't" in found["redis"].words


async def test_an_exposed_server_without_a_key_is_not_well(redis_url: str, tmp_path: Path) -> None:
    """What would refuse to start is told before."""
    found = await look(redis_url=redis_url, data_dir=tmp_path, host="0.0.0.0")
    assert not found["settings"].is_well
    assert "RUNCAST_API_KEY" in found["settings"].words


@pytest.mark.parametrize(("has_database", "code"), [(True, 0), (False, 1)])
async def test_the_exit_code_says_whether_all_is_well(
    *, has_database: bool, code: int, redis_url: str, tmp_path: Path
) -> None:
    """Scripts can ask the doctor."""
    if has_database:
        await migrate(Settings.load(data_dir=tmp_path))
    result = runcast("doctor", env={"REDIS_URL": redis_url, "RUNCAST_DATA_DIR": str(tmp_path)})
    assert result.returncode == code, result.stderr
    assert len(result.stdout.splitlines()) == 3

"""Redis Cluster: slots that move, masters that die, and the way there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from runcast.backends.bullmq_queue import CLUSTER_PREFIX, BullMQQueue
from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_cluster import SlotMap, as_cluster, slot_of
from runcast.backends.redis_cluster_log import open_run_log
from runcast.backends.redis_cluster_wire import ClusterScript, ClusterWire, open_wire
from runcast.backends.redis_log import RedisPubSubService
from runcast.errors import ConfigurationError, UnavailableError
from runcast.events import START, Cursor, LoggedEvent
from runcast.ports import Appended, Missing
from runcast.records import Job
from tests.backends.test_redis_log import RUN, Collected, event, events
from tests.support.redis_cluster import ClusterNode, RedisCluster, begin_move, end_move, start_cluster, wait_until


@pytest.fixture
async def client(cluster_url: str) -> AsyncIterator["redis.Redis"]:
    client = open_redis(cluster_url)
    yield client
    await close_redis(client)


@pytest.fixture
async def log(client: "redis.Redis") -> AsyncIterator[RedisPubSubService]:
    async with running_log(client) as log:
        yield log


@contextlib.asynccontextmanager
async def running_log(client: "redis.Redis") -> AsyncIterator[RedisPubSubService]:
    log = open_run_log(client, retention_seconds=3600, max_events=10_000)
    await log.start()
    yield log
    await log.close()


@pytest.fixture
def other_node(redis_cluster: RedisCluster, cluster_url: str) -> Iterator[ClusterNode]:
    """A master that doesn't own the slot of the run; afterwards the slot is back where it was."""
    assert cluster_url
    owner = redis_cluster.owner_of("run:abc")
    yield next(node for node in redis_cluster.masters if node is not owner)
    if redis_cluster.owner_of("run:abc") is not owner:
        redis_cluster.move("run:abc", owner)


@pytest.fixture
def replicated() -> Iterator[RedisCluster]:
    """A cluster whose masters may be killed."""
    with start_cluster(has_replicas=True) as cluster:
        yield cluster


def count_listeners(node: ClusterNode, kind: str) -> int:
    """Connections that have subscribed: `sub` to what is broadcast, `ssub` to what is of this node's slots."""
    return len([line for line in node.client.client_list(_type="pubsub") if int(line[kind])])


async def append_for_sure(log: RedisPubSubService, logged: Sequence[LoggedEvent]) -> None:
    """As the writer does: however long it takes, and with what the log turns out to lack."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                outcome = await log.append(RUN, logged)
                if isinstance(outcome, Missing):
                    outcome = await log.append(RUN, events(1, outcome.last.seq + 1, logged[-1].cursor.seq))
                assert isinstance(outcome, Appended)
                return
            await asyncio.sleep(0.02)


class Watcher:
    """Has every event once the log's promise is kept: live, or by reading after a gap."""

    def __init__(self, log: RedisPubSubService) -> None:
        self._log = log
        self._gap = asyncio.Event()
        self._heard = Collected()
        self.gaps = 0

    async def watch(self, last: int) -> list[int]:
        """The seqs up to the last, in order of arrival and without those that came again."""
        undo_gap = self._log.on_gap(self._tell)
        unsubscribe = await self._log.on_run_event(RUN, self._heard)
        seen: set[int] = set()
        async with asyncio.timeout(60):
            while last not in seen or len(seen) < last:
                await asyncio.sleep(0.01)
                if self._gap.is_set():
                    self._gap.clear()
                    try:
                        seen |= {kept.cursor.seq for kept in await self._log.read(RUN, START, limit=10_000)}
                    except UnavailableError:
                        self._gap.set()
                seen |= {heard.cursor.seq for heard in self._heard}
        await unsubscribe()
        undo_gap()
        return sorted(seen)

    def _tell(self) -> None:
        self.gaps += 1
        self._gap.set()


def test_a_run_s_stream_and_channel_are_of_one_slot(redis_cluster: RedisCluster) -> None:
    """So one script may append and publish."""
    assert slot_of("run:abc") == slot_of("{run:abc}:log") == 11775
    assert redis_cluster.masters[0].command("CLUSTER", "KEYSLOT", "{run:abc}:log") == 11775


async def test_runs_live_on_all_nodes(log: RedisPubSubService, redis_cluster: RedisCluster) -> None:
    """And are listened to where they live: one connection to each node, however many runs it has."""
    runs = [f"run-{number}" for number in range(60)]
    heard = {run_id: Collected() for run_id in runs}
    for run_id in runs:
        await log.on_run_event(run_id, heard[run_id])
    await asyncio.gather(*(log.append(run_id, [event(1, 1, run_id=run_id)]) for run_id in runs))
    for run_id in runs:
        assert await heard[run_id].wait_for(1) == [event(1, 1, run_id=run_id)]
    assert await log.read_last(runs) == [Cursor(1, 1)] * len(runs)
    assert [count_listeners(node, "ssub") for node in redis_cluster.masters] == [1, 1, 1]


async def test_an_append_follows_its_slot(
    log: RedisPubSubService, redis_cluster: RedisCluster, other_node: ClusterNode
) -> None:
    """Whoever is asked says where the slot has gone; the append goes there, by itself."""
    await log.append(RUN, events(1, 1, 2))
    redis_cluster.move("run:abc", other_node)
    assert await log.append(RUN, events(1, 3, 4)) == Appended(Cursor(1, 4))
    assert await log.read(RUN, START, limit=10) == events(1, 1, 4)
    assert other_node.client.xlen("{run:abc}:log") == 4


async def test_a_key_that_has_moved_ahead_of_its_slot_is_found(
    log: RedisPubSubService, redis_cluster: RedisCluster, other_node: ClusterNode
) -> None:
    """While a slot moves, a node may send single keys on (ASK): a new run begins where it is going to live."""
    begin_move(redis_cluster, "run:abc", other_node)
    assert await log.append(RUN, events(1, 1, 2)) == Appended(Cursor(1, 2))
    assert await log.append(RUN, events(1, 3, 3)) == Appended(Cursor(1, 3))
    assert await log.read(RUN, START, limit=10) == events(1, 1, 3)
    end_move(redis_cluster, "run:abc", other_node)
    assert await log.read(RUN, START, limit=10) == events(1, 1, 3)


async def test_a_listener_follows_its_slot_and_tells_of_the_gap(
    log: RedisPubSubService, redis_cluster: RedisCluster, other_node: ClusterNode
) -> None:
    """The old owner lets the channel go; it is listened to at the new one."""
    heard, gap = Collected(), asyncio.Event()
    unsubscribe = await log.on_run_event(RUN, heard)
    undo = log.on_gap(gap.set)
    redis_cluster.move("run:abc", other_node)
    async with asyncio.timeout(20):
        await gap.wait()
    assert log.get_stats().connected
    await log.append(RUN, events(1, 1, 2))
    assert [seen.cursor.seq for seen in await heard.wait_for(2)] == [1, 2]
    undo()
    await unsubscribe()


async def test_whoever_comes_after_a_move_listens_at_once(
    log: RedisPubSubService, redis_cluster: RedisCluster, other_node: ClusterNode
) -> None:
    """What is known of the slots is old; the old owner says so, and no gap is needed."""
    await log.read_last([RUN])
    redis_cluster.move("run:abc", other_node)
    heard = Collected()
    unsubscribe = await log.on_run_event(RUN, heard)
    await log.append(RUN, events(1, 1, 1))
    assert len(await heard.wait_for(1)) == 1
    await unsubscribe()


async def test_a_watcher_sees_everything_while_its_slot_moves_back_and_forth(
    log: RedisPubSubService, redis_cluster: RedisCluster, other_node: ClusterNode
) -> None:
    """Live or by reading after a gap, while the writer goes on."""
    owner = redis_cluster.owner_of("run:abc")
    watcher = Watcher(log)
    watching = asyncio.create_task(watcher.watch(600))
    for seq in range(1, 601):
        await append_for_sure(log, [event(1, seq)])
        if seq % 150 == 0:
            target = owner if seq % 300 == 0 else other_node
            await asyncio.to_thread(redis_cluster.move, "run:abc", target)
    assert await watching == list(range(1, 601))
    assert watcher.gaps >= 1


async def test_a_watcher_sees_everything_when_a_master_dies(replicated: RedisCluster) -> None:
    """Its replica takes over; what Redis has lost with it the writer puts back, and the watcher reads it."""
    client = open_redis(replicated.url)
    async with running_log(client) as log:
        watcher = Watcher(log)
        watching = asyncio.create_task(watcher.watch(300))
        for seq in range(1, 301):
            if seq == 100:
                replicated.owner_of("run:abc").kill()
            await append_for_sure(log, [event(1, seq)])
        assert await watching == list(range(1, 301))
        assert watcher.gaps >= 1
        assert log.get_stats().connected
    await close_redis(client)


async def test_a_writer_who_listens_to_nothing_finds_the_new_master(replicated: RedisCluster) -> None:
    """A worker hears of a lost node only from its own appends; a node that hangs is given up as one that is dead."""
    cluster = as_cluster(client := open_redis(replicated.url))
    assert cluster is not None
    wire = ClusterWire(SlotMap(cluster), timeout_seconds=0.5)
    await wire.call("run:abc", "SET", "run:abc", "kept", "EX", 600)
    await wire.call("run:abc", "WAIT", 1, 5_000)
    replicated.owner_of("run:abc").pause()
    async with asyncio.timeout(40):
        while True:
            try:
                answer = await wire.call("run:abc", "GET", "run:abc")
                break
            except (RedisError, RedisClusterException, OSError):
                await asyncio.sleep(0.05)
    assert answer == b"kept"
    await wire.close()
    await close_redis(client)


async def test_a_listener_notices_that_its_master_hangs(replicated: RedisCluster) -> None:
    """Nothing closes the connection; nothing is heard on it either, not even the answer to a PING."""
    client = open_redis(replicated.url)
    async with running_log(client) as log:
        heard, gap = Collected(), asyncio.Event()
        await log.on_run_event(RUN, heard)
        log.on_gap(gap.set)
        owner = replicated.owner_of("run:abc")
        heir = replicated.replicas[replicated.masters.index(owner)]
        owner.pause()
        async with asyncio.timeout(40):
            while not count_listeners(heir, "ssub"):
                await asyncio.sleep(0.05)
            await gap.wait()
        await append_for_sure(log, events(1, 1, 2))
        assert [seen.cursor.seq for seen in await heard.wait_for(2)] == [1, 2]
    await close_redis(client)


async def test_a_hand_over_to_a_replica_is_followed(replicated: RedisCluster) -> None:
    """The old master lives on as a replica, so no connection breaks; it is left all the same."""
    client = open_redis(replicated.url)
    async with running_log(client) as log:
        heard, gap = Collected(), asyncio.Event()
        await log.on_run_event(RUN, heard)
        log.on_gap(gap.set)
        await log.append(RUN, events(1, 1, 2))
        owner = replicated.owner_of("run:abc")
        heir = replicated.replicas[replicated.masters.index(owner)]
        heir.command("CLUSTER", "FAILOVER")
        async with asyncio.timeout(30):
            await gap.wait()
        assert replicated.owner_of("run:abc") is heir
        await append_for_sure(log, events(1, 3, 3))
        assert [seen.cursor.seq for seen in await heard.wait_for(3)] == [1, 2, 3]
        assert (count_listeners(heir, "ssub"), count_listeners(owner, "ssub")) == (1, 0)
    await close_redis(client)


async def test_statuses_and_control_messages_survive_the_loss_of_any_node(replicated: RedisCluster) -> None:
    """They are heard at any node: where that one has died, at another."""
    client = open_redis(replicated.url)
    async with running_log(client) as log:
        statuses, gap = Collected(), asyncio.Event()
        controls: asyncio.Queue[object] = asyncio.Queue()
        await log.on_status(statuses)
        await log.on_control(controls.put_nowait)
        log.on_gap(gap.set)
        next(
            node
            for node in replicated.masters
            if any(int(line["sub"]) for line in node.client.client_list(_type="pubsub"))
        ).kill()
        async with asyncio.timeout(30):
            await gap.wait()
            while not statuses:
                with contextlib.suppress(UnavailableError):
                    await log.append(RUN, [event(1, len(statuses) + 1, status="running")])
                await asyncio.sleep(0.02)
            while controls.empty():
                with contextlib.suppress(UnavailableError):
                    await log.send_control({"cancel": RUN})
                await asyncio.sleep(0.02)
        assert await controls.get() == {"cancel": RUN}
    await close_redis(client)


async def test_the_queue_survives_the_loss_of_its_master(replicated: RedisCluster) -> None:
    """Jobs are added, taken and finished before and after."""
    queue = BullMQQueue(replicated.url, lock_seconds=2)
    async with asyncio.timeout(60):
        await queue.add(Job(id="before", name="prompt", data={}))
        taken = await queue.take()
        assert taken.job.id == "before"
        await taken.finish()
        waiting = asyncio.create_task(queue.take())  # it blocks at the master that dies
        owner = replicated.owner_of(f"{CLUSTER_PREFIX}:runs:wait")
        wait_until(lambda: owner.client.info("replication")["slave0"]["lag"] <= 1, "the replica has it all")
        owner.kill()
        while True:
            try:
                await queue.add(Job(id="after", name="prompt", data={}))
                break
            except UnavailableError:
                await asyncio.sleep(0.05)
        again = await waiting
        assert again.job.id == "after"
        await again.finish()
    await queue.close()


async def test_without_any_node_everything_says_so() -> None:
    """In the one way in which Redis is away; and the log comes back with the cluster."""
    with start_cluster() as cluster:
        client = open_redis(cluster.url)
        async with running_log(client) as log:
            heard, gap = Collected(), asyncio.Event()
            await log.on_run_event(RUN, heard)
            for node in cluster.masters:
                node.kill()
            async with asyncio.timeout(20):
                while log.get_stats().connected:
                    await asyncio.sleep(0.01)
            for action in (
                log.append(RUN, events(1, 1, 1)),
                log.read(RUN, START, limit=1),
                log.read_last([RUN]),
                log.fence(RUN, 1, floor=0),
                log.ping(),
                log.send_control({}),
            ):
                with pytest.raises(UnavailableError):
                    await action
            log.on_gap(gap.set)
            for node in cluster.masters:
                node.start()
            async with asyncio.timeout(30):
                while not log.get_stats().connected:
                    await asyncio.sleep(0.01)
            assert gap.is_set()
            await append_for_sure(log, events(1, 1, 1))
            assert len(await heard.wait_for(1)) == 1
        await close_redis(client)


async def test_a_script_is_sent_to_each_node_that_lacks_it(client: "redis.Redis") -> None:
    """As to a replica that has just taken over."""
    wire = open_wire(client, timeout_seconds=5)
    assert isinstance(wire, ClusterWire)
    script = ClusterScript(wire, "return {KEYS[1], ARGV[1]}")
    for key in ("a", "b", "c", "d"):
        assert await script([key], ["one"]) == [key.encode(), b"one"]
    await client.script_flush()
    assert await script(["a"], [2]) == [b"a", b"2"]
    await wire.close()


async def test_a_refusal_is_raised_to_its_caller(client: "redis.Redis") -> None:
    """What isn't about where a slot is comes out as it is."""
    wire = open_wire(client, timeout_seconds=5)
    assert isinstance(wire, ClusterWire)
    with pytest.raises(ResponseError, match="unknown command"):
        await wire.call("a", "NOSUCH")
    await wire.close()


async def test_those_who_need_the_slots_at_once_ask_once(client: "redis.Redis", redis_cluster: RedisCluster) -> None:
    """However many events wait for them."""
    cluster = as_cluster(client)
    assert cluster is not None
    slots = SlotMap(cluster)

    def asked() -> int:
        stats = [node.client.info("commandstats") for node in redis_cluster.masters]
        return sum(int(each.get("cmdstat_cluster|slots", {}).get("calls", 0)) for each in stats)

    before = asked()
    await asyncio.gather(*(slots.node_of(number) for number in range(200)))
    assert asked() - before <= 2  # redis-py's own, and ours
    await slots.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://", "isn't the host:port of a node"),
        ("redis+cluster://one", "isn't the host:port of a node"),
        ("redis+cluster://one:7000,two", "'two' isn't the host:port of a node"),
        ("redis+cluster://one:7000,", "isn't the host:port of a node"),
        ("redis+cluster://one:7000/2", "only database 0"),
        ("redis+cluster://one:7000?socket_timeout=soon", "REDIS_URL"),
        ("redis+cluster://one:7000?nonsense=1", "nonsense"),
    ],
)
def test_a_url_that_is_none_of_a_cluster_is_refused(url: str, reason: str) -> None:
    """With a sentence that names the setting and says what is wrong."""
    with pytest.raises(ConfigurationError, match="REDIS_URL") as refused:
        open_redis(url)
    assert reason in str(refused.value)


def test_a_url_may_say_who_we_are_and_whom_we_trust() -> None:
    """User, password and TLS are those of every node."""
    cluster = as_cluster(open_redis("rediss+cluster://ada:p%40ss@[::1]:7000,two:7001/0?ssl_ca_certs=/ca.pem"))
    assert cluster is not None
    options = cluster.connection_kwargs
    assert sorted(cluster.nodes_manager.startup_nodes) == ["::1:7000", "two:7001"]
    assert (options["username"], options["password"]) == ("ada", "p@ss")
    assert options["ssl_ca_certs"] == "/ca.pem"
    assert options["connection_class"].__name__ == "SSLConnection"
    assert options["socket_connect_timeout"] == 2.0

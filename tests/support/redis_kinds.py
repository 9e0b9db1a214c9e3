"""What a test does alike with a single Redis and with a cluster."""

from typing import Any

import redis.asyncio as redis

from runcast.backends.redis_cluster import as_cluster


async def publish(client: "redis.Redis", channel: str, message: bytes) -> None:
    """On a run's channel, as whoever has access to Redis may."""
    sharded: Any = client
    await (
        sharded.execute_command("SPUBLISH", channel, message)
        if as_cluster(client)
        else client.publish(channel, message)
    )


async def hang_up_on_listeners(client: "redis.Redis") -> None:
    """Have Redis close the connections on which runs are listened to."""
    cluster = as_cluster(client)
    if cluster is None:
        await client.client_kill_filter(_type="pubsub")
        return
    for node in cluster.get_primaries():
        listed = await node.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
        for line in listed if isinstance(listed, list) else listed.decode().splitlines():
            facts = line if isinstance(line, dict) else dict(word.split("=", 1) for word in line.split())
            if int(facts["ssub"]):
                await node.execute_command("CLIENT", "KILL", "ID", facts["id"])


async def receive_published(client: "redis.Redis", channel: str) -> Any:
    """A subscription of a plain client to a run's channel, and the way to take the next message from it."""
    cluster = as_cluster(client)
    if cluster is not None:
        await cluster.initialize()  # else it knows no slots yet
    pubsub = client.pubsub()
    if cluster is None:
        await pubsub.psubscribe("run:*")
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "psubscribe"
        return pubsub, pubsub.get_message
    sharded: Any = pubsub
    await sharded.ssubscribe(channel)
    assert (await sharded.get_sharded_message(timeout=5) or {})["type"] == "ssubscribe"
    return sharded, sharded.get_sharded_message

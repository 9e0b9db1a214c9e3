"""One run that starts many: each child is a run of its own, with its own page, retries and limits.

    runcast up examples/fan_out.py
    runcast run --runner census --input '{"words": ["redis", "valkey", "sqlite"]}' --watch

The parent needs no worker's place while it waits, so even a single one can't be blocked by it. Canceling the parent
cancels its children.
"""

from runcast import Limit, Runcast, RunContext
from runcast.errors import ChildFailedError

app = Runcast()


@app.runner
async def census(run: RunContext, words: list[str]) -> dict[str, int]:
    """Counts letters, one run for each word."""
    # First all are started, then all are waited for: they work side by side.
    children = [(word, await run.start(count, word=word)) for word in words]
    found: dict[str, int] = {}
    for number, (word, child) in enumerate(children, 1):
        try:
            found[word] = await child.result()
        except ChildFailedError as error:
            run.log(f"{word}: {error}", level="warning")
        run.progress(number, len(children), "words counted")
    return found


@app.runner(retries=3, limit=Limit(10))
async def count(run: RunContext, word: str) -> int:
    """Counts the letters of one word; ten such runs at once, and no more."""
    if not word.isalpha():
        raise ValueError(f"{word!r} has more than letters")
    return await run.step("count", len, word)


# ruff: noqa: INP001 - an example is a file of its own, not part of a package

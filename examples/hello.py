"""The smallest application: a runner with two steps that streams what it says.

    runcast up examples/hello.py

Then choose `hello` in the console, or:

    runcast run --runner hello --input '{"name": "Ada"}' --watch
"""

import re

from runcast import Runcast, RunContext

app = Runcast()


@app.runner
async def hello(run: RunContext, name: str = "world") -> dict[str, str]:
    """Greets somebody, word by word."""
    greeting = await run.step("choose a greeting", choose_greeting, name)
    await run.step("say it", say, run, greeting)
    return {"said": greeting}


def choose_greeting(name: str) -> str:
    """A plain function: it runs in a thread, so it may take its time."""
    return f"Hello {name}, nice to see you live"


async def say(run: RunContext, text: str) -> None:
    """Stream a text to everybody who watches."""
    async with run.message("greeting") as message:
        for word in re.findall(r"\S+\s*", text):
            message.write(word)


# ruff: noqa: INP001 - an example is a file of its own, not part of a package

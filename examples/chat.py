"""A chat with a model that survives a reload: of the page, of this code, and of the process.

    pip install openai
    export OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=none CHAT_MODEL=llama3.2
    runcast up examples/chat.py

Any endpoint that speaks OpenAI's chat completions will do. Choose `chat` in the console and ask something. Reload the
page amid an answer: the text is there, and goes on. A whole conversation is one run. While you think it waits for you,
and costs nothing; kill the worker, and the answers so far are not asked for again.
"""

import os

from openai import AsyncOpenAI

from runcast import Runcast, RunContext

app = Runcast()

Conversation = list[dict[str, str]]


@app.runner
async def chat(run: RunContext, question: str) -> Conversation:
    """Talks until you have nothing more to ask."""
    conversation = [{"role": "user", "content": question}]
    while True:
        # A step's result is committed: whenever this code runs again, what was answered is just read.
        reply = await run.step("answer", answer, run, conversation)
        conversation.append({"role": "assistant", "content": reply})
        question = await run.ask("What else? An empty answer ends the chat.", schema={"type": "string"})
        if not question:
            return conversation
        conversation.append({"role": "user", "content": question})


@app.step(retries=2, timeout_seconds=300)
async def answer(run: RunContext, conversation: Conversation) -> str:
    """Ask the model, and let everybody who watches read along."""
    async with AsyncOpenAI() as model:
        stream = await model.chat.completions.create(
            model=os.environ.get("CHAT_MODEL", "llama3.2"),
            messages=conversation,  # type: ignore[arg-type]  # dicts are what it takes
            stream=True,
            stream_options={"include_usage": True},
        )
        return await run.stream(stream)


# ruff: noqa: INP001 - an example is a file of its own, not part of a package

"""The guide does what it says: each page's code is loaded as it stands, and its checks, unseen by readers, are run.

A check is an HTML comment that begins with `check`; it has `harness` and all that the page defines.
"""

import importlib.util
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runcast.testing import RunHarness

GUIDE = Path(__file__).parent.parent / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
Harness = Callable[..., RunHarness]


def load(page: Path, folder: Path) -> ModuleType:
    """A page's Python as a module of its own; its checks are `async def check_N(harness)`."""
    text = page.read_text("utf-8")
    code = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    checks = re.findall(r"^<!-- check\n(.*?)^-->", text, re.MULTILINE | re.DOTALL)
    functions = [
        f"async def check_{number}(harness):\n{textwrap.indent(check, '    ')}" for number, check in enumerate(checks)
    ]
    name = f"guide_{page.stem}"
    file = folder / f"{name}.py"
    file.write_text("\n".join([*code, *functions]))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_a_page_does_what_it_says(page: Path, run_harness: Harness, tmp_path: Path) -> None:
    """Every page with a runner has at least one check or test of it."""
    module = load(page, tmp_path)
    try:
        done = 0
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            if name.startswith("check_"):
                async with run_harness(module.app) as harness:
                    await function(harness)
                done += 1
            elif name.startswith("test_"):
                await function(partial(_fresh, run_harness))
                done += 1
        assert done or not module.app.runners
    finally:
        del sys.modules[module.__name__]


def _fresh(run_harness: Harness, app: Any) -> RunHarness:
    return run_harness(app)

"""A store whose process may be killed before and after each transaction."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sampan.store.database import Store
from tests.fakes.crashes import Steps

T = TypeVar("T")


class MortalStore(Store):
    """Its rows outlive whoever writes them."""

    steps: Steps  # of the life that is under way

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        self.steps.step("before a transaction")
        result = await super().write(fn, durable=durable)
        self.steps.step("after a transaction")
        return result

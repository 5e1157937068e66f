"""Do one thing to several objects: all are tried, whatever happens to one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import click

from sampan.errors import NotModifiedError, SampanError, UnavailableError

# Enough to overlap the waiting, few enough not to start a hundred processes at once.
_AT_ONCE: Final = 16


async def for_each(
    names: Iterable[str],
    action: Callable[[str], Awaitable[object]],
    *,
    ignore: tuple[type[SampanError], ...] = (),
) -> int:
    """Run ``action`` on every name, several at a time, and print the names it succeeded for, in order.

    What is that way already counts as success. Errors go to stderr. Returns the exit code: 1 if one failed with an
    error that is not in ``ignore``.

    Raises:
        UnavailableError: the engine does not answer.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def attempt(name: str) -> SampanError | None:
        try:
            async with slots:
                await action(name)
        except NotModifiedError:
            return None
        except UnavailableError:
            raise  # nothing will work for the others either
        except SampanError as error:
            return error
        return None

    code = 0
    given = tuple(names)
    async with asyncio.TaskGroup() as attempts:
        tasks = [attempts.create_task(attempt(name), name=name) for name in given]
    for name, task in zip(given, tasks, strict=True):
        error = task.result()
        if error is None:
            click.echo(name)
            continue
        click.echo(f"sampan: {error}", err=True)
        if not isinstance(error, ignore):
            code = 1
    return code

"""A conversation that writes content: containerd's ``Write``, message by message.

Reference: containerd's content service. Where a client may not expect it: ``WRITE`` at offset 0 over something
written begins anew, any other offset must be the current one, and an expected digest that is here already ends the
conversation.
"""

from collections.abc import AsyncGenerator, AsyncIterator

from imaged.content.ingest import Ingest, Ingests
from sampan.errors import InvalidArgumentError
from sampan.resource.content import Action, WriteReply, WriteStep


async def write_session(
    ingests: Ingests, steps: AsyncIterator[WriteStep], lease: str = "", *, resumable: bool = True
) -> AsyncGenerator[WriteReply, None]:
    """Answer each step; one that is cut off before COMMIT can be resumed by its ref. ``lease`` keeps the content.

    Unless it is ``resumable``, the ingest goes with this session: not even a client that is killed leaves it behind.

    Raises:
        InvalidArgumentError: no ref, an offset that is not the current one, a step after COMMIT.
        AlreadyExistsError: content with the expected digest is here.
        ConflictError: COMMIT of another size or digest than expected.
        UnavailableError: somebody else is writing the ref.
    """
    step = await anext(steps, None)
    if step is None:
        return
    if not step.ref:
        raise InvalidArgumentError("first message must have a reference")
    async with ingests.open(step.ref, step.total, step.expected) as ingest:
        if not resumable:
            ingests.abandon(ingest)
        committed = False
        while step is not None:
            if committed:
                raise InvalidArgumentError(f"ref {ingest.ref}: committed already")
            yield await _answer(ingests, ingest, step, lease)
            committed = step.action is Action.COMMIT
            step = await anext(steps, None)


async def _answer(ingests: Ingests, ingest: Ingest, step: WriteStep, lease: str) -> WriteReply:
    if step.expected is not None and step.expected != ingest.expected:
        await ingests.refuse_existing(ingest.ref, step.expected, ingest)
        ingest.expected = step.expected
    if step.total > 0:
        ingest.total = step.total
    if step.action is not Action.STAT:
        await _write(ingest, step)
    reply = _reply(ingest, step.action)
    if step.action is Action.COMMIT:
        await ingests.commit(ingest, ingest.total, ingest.expected, step.labels, lease)
    return reply


async def _write(ingest: Ingest, step: WriteStep) -> None:
    if step.offset and step.offset != ingest.offset:
        raise InvalidArgumentError(f"write @{step.offset} must occur at current offset {ingest.offset}")
    # A COMMIT without data says nothing about where to write.
    if not step.offset and ingest.offset and step.data:
        await ingest.truncate()
    if step.data:
        await ingest.write(step.data)


def _reply(ingest: Ingest, action: Action) -> WriteReply:
    status = ingest.status
    return WriteReply(action, status.offset, status.total, ingest.digest, status.started_ns, status.updated_ns)

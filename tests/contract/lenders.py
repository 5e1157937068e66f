"""What a step borrows of a client's session: secrets and SSH agents."""

import os
import tempfile
from pathlib import Path

import pytest

from buildd.session.protocol import Session, SocketOwner
from sampan.errors import NotFoundError

SECRETS = {"token": b"\0secret\n", "empty": b""}
AGENTS = {"default", "work"}


class LenderContract:
    """The fixture's client has ``SECRETS`` and ``AGENTS``."""

    promises: tuple[type, ...] = (Session,)

    @pytest.mark.parametrize("name", SECRETS)
    async def test_a_secret_is_told_byte_for_byte(self, session: Session, name: str) -> None:
        assert await session.secret(name) == SECRETS[name]

    async def test_a_secret_that_the_client_has_not_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFoundError):
            await session.secret("nope")

    @pytest.mark.parametrize("name", ["", *sorted(AGENTS)])
    async def test_an_agent_is_known_by_its_name_and_without_one_by_default(self, session: Session, name: str) -> None:
        await session.check_agent(name)

    async def test_an_agent_that_the_client_does_not_forward_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFoundError):
            await session.check_agent("nope")

    async def test_an_agent_s_socket_can_be_opened_twice(self, session: Session) -> None:
        owner = SocketOwner(os.getuid(), os.getgid(), 0o600)
        with tempfile.TemporaryDirectory() as place:  # not tmp_path: that is too long for a socket
            one, other = Path(place, "one"), Path(place, "other")
            async with session.ssh_socket("work", one, owner), session.ssh_socket("work", other, owner):
                assert (one.is_socket(), other.is_socket()) == (True, True)
            async with session.ssh_socket("work", one, owner):
                pass

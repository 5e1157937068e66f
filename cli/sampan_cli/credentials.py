"""Passwords for registries, where Docker keeps them: ``config.json`` and the helpers that it names.

A helper is a program ``docker-credential-<name>`` with the verbs get, store and erase, JSON on its stdin and stdout.
"""

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.api.image.v1 import images_pb2 as pb
from sampan.errors import InvalidArgumentError, NotFoundError, UnauthenticatedError
from sampan.oci.reference import DEFAULT_REGISTRY, parse_reference

# Under this key everyone has kept the default registry's password since before there was a second registry.
_DEFAULT_KEY: Final = f"https://index.{DEFAULT_REGISTRY}/v1/"

# The name that helpers give to an entry whose secret is a refresh token rather than a password.
_TOKEN_USER: Final = "<token>"  # noqa: S105 - a user name

_HELPER_TIMEOUT_S: Final = 60.0


def config_path(environ: Mapping[str, str]) -> Path:
    """Return the file: in $DOCKER_CONFIG, or in ``~/.docker``."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"


class CredentialStore:
    """One user's passwords."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def for_image(self, reference: str) -> pb.Credentials | None:
        """Return the credentials for the registry that an image comes from, or None.

        Raises:
            InvalidArgumentError: the reference or the file cannot be read.
        """
        return await self.get(parse_reference(reference).registry)

    async def get(self, registry: str) -> pb.Credentials | None:
        """Return the credentials for ``registry``, or None."""
        config = self._load()
        helper = self._helper(config, registry)
        for key in _keys(registry):
            if helper:
                found = await _from_helper(helper, key)
            else:
                found = _from_entry(config.get("auths", {}).get(key), key)
            if found is not None:
                return found
        return None

    async def store(self, registry: str, credentials: pb.Credentials) -> Path | None:
        """Keep credentials; return the file if they are in it as plain text, None if a helper has them."""
        config = self._load()
        key = _keys(registry)[0]
        helper = self._helper(config, registry)
        token = credentials.identity_token
        if helper:
            secret = {
                "ServerURL": key,
                "Username": _TOKEN_USER if token else credentials.username,
                "Secret": token or credentials.password,
            }
            await _call_helper(helper, "store", json.dumps(secret))
            config.setdefault("auths", {})[key] = {}
            self._save(config)
            return None
        password = "" if token else credentials.password
        auth = base64.b64encode(f"{credentials.username}:{password}".encode()).decode()
        config.setdefault("auths", {})[key] = {"auth": auth, **({"identitytoken": token} if token else {})}
        self._save(config)
        return self._path

    async def erase(self, registry: str) -> bool:
        """Forget the credentials for ``registry``; say whether there were any."""
        config = self._load()
        helper = self._helper(config, registry)
        known = False
        for key in _keys(registry):
            known = config.get("auths", {}).pop(key, None) is not None or known
            if helper and await _from_helper(helper, key) is not None:
                await _call_helper(helper, "erase", key)
                known = True
        if known:
            self._save(config)
        return known

    def _load(self) -> dict[str, Any]:
        try:
            config = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"{self._path} cannot be read: {error}") from error
        if not isinstance(config, dict):
            raise InvalidArgumentError(f"{self._path} is not a JSON object")
        return config

    def _save(self, config: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w") as file:
            json.dump(config, file, indent="\t")
            file.flush()
            os.fsync(fd)
        temporary.replace(self._path)

    @staticmethod
    def _helper(config: Mapping[str, Any], registry: str) -> str:
        helpers = config.get("credHelpers") or {}
        return str(next((helpers[key] for key in _keys(registry) if key in helpers), config.get("credsStore") or ""))


def _keys(registry: str) -> tuple[str, ...]:
    """Return the names under which a registry may be known, the one to write first."""
    if registry == DEFAULT_REGISTRY:
        return (_DEFAULT_KEY, registry)
    return (registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/", f"http://{registry}")


def _from_entry(entry: Any, key: str) -> pb.Credentials | None:
    if not isinstance(entry, Mapping) or not entry:
        return None
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"the credentials of {key} are not base64") from error
        username, _, password = text.partition(":")
    return pb.Credentials(
        username=username,
        password=password.rstrip("\0"),
        identity_token=entry.get("identitytoken", ""),
        registry_token=entry.get("registrytoken", ""),
    )


async def _from_helper(helper: str, key: str) -> pb.Credentials | None:
    try:
        answer = json.loads(await _call_helper(helper, "get", key))
    except UnauthenticatedError:
        return None  # helpers say "credentials not found" with the same exit code as everything else
    if answer.get("Username") == _TOKEN_USER:
        return pb.Credentials(identity_token=answer.get("Secret", ""))
    return pb.Credentials(username=answer.get("Username", ""), password=answer.get("Secret", ""))


async def _call_helper(helper: str, verb: str, text: str) -> bytes:
    """Run a helper.

    Raises:
        NotFoundError: there is no such program.
        UnauthenticatedError: it failed; the message is its own.
    """
    program = f"docker-credential-{helper}"
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(program, verb, stdin=pipe, stdout=pipe, stderr=pipe)
    except FileNotFoundError as error:
        raise NotFoundError(f"credential helper {program} is not in $PATH") from error
    try:
        async with asyncio.timeout(_HELPER_TIMEOUT_S):
            output, errors = await process.communicate(text.encode())
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise UnauthenticatedError(f"{program} {verb} did not answer within {_HELPER_TIMEOUT_S:g} s") from error
    if process.returncode:
        raise UnauthenticatedError(f"{program} {verb}: {(output or errors).decode('utf-8', 'replace').strip()}")
    return output

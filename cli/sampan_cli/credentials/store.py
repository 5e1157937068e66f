"""Passwords for registries, where Docker keeps them: ``config.json`` and the helpers that it names."""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.errors import InvalidArgumentError
from sampan.oci.reference import DEFAULT_REGISTRY, parse_reference
from sampan.resource.image import Credentials
from sampan_cli.credentials.helper import HELPER_TIMEOUT_S, CredentialHelper

# Under this key everyone has kept the default registry's password since before there was a second registry.
_DEFAULT_KEY: Final = f"https://index.{DEFAULT_REGISTRY}/v1/"

_TOKENS: Final = ("identitytoken", "registrytoken")


def config_path(environ: Mapping[str, str]) -> Path:
    """Return the file: in $DOCKER_CONFIG, or in ``~/.docker``."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"


class CredentialStore:
    """One user's passwords."""

    def __init__(self, path: Path, helper_timeout_s: float = HELPER_TIMEOUT_S) -> None:
        self._path = path
        self._helper_timeout_s = helper_timeout_s

    async def for_image(self, reference: str) -> Credentials | None:
        """Return the credentials for the registry that an image comes from, or None.

        Raises:
            InvalidArgumentError: the reference or the file cannot be read.
            NotFoundError, UnauthenticatedError: the helper is missing, or fails; the message names it.
        """
        return await self.get(parse_reference(reference).registry)

    async def get(self, registry: str) -> Credentials | None:
        """Return the credentials for ``registry``, or None. Raises as ``for_image``."""
        config = self._load()
        if helper := self._helper(config, registry):
            return await helper.get(_keys(registry)[0])
        for key in _keys(registry):
            found = _from_entry(_auths(config).get(key), key)
            if found is not None:
                return found
        return None

    async def store(self, registry: str, credentials: Credentials) -> Path | None:
        """Keep credentials; return the file if they are new in it as plain text. Raises as ``for_image``."""
        config = self._load()
        key = _keys(registry)[0]
        if helper := self._helper(config, registry):
            await helper.store(key, credentials)
            _auths(config)[key] = {}
            self._save(config)
            return None
        token = credentials.identity_token
        password = "" if token else credentials.password
        auth = base64.b64encode(f"{credentials.username}:{password}".encode()).decode()
        entry = {"auth": auth, **({"identitytoken": token} if token else {})}
        if _auths(config).get(key) == entry:
            return None
        _auths(config)[key] = entry
        self._save(config)
        return self._path

    async def erase(self, registry: str) -> None:
        """Forget the credentials for ``registry``, if there are any. Raises as ``for_image``."""
        config = self._load()
        known = [_auths(config).pop(key, None) for key in _keys(registry)]
        if helper := self._helper(config, registry):
            await helper.erase(_keys(registry)[0])
        if any(entry is not None for entry in known):
            self._save(config)

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
        # Where a link leads, as Docker does: the file may be kept with others of the user's, elsewhere.
        path = Path(os.path.realpath(self._path))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w") as file:
            json.dump(config, file, indent="\t")
            file.flush()
            os.fsync(fd)
        temporary.replace(path)

    def _helper(self, config: Mapping[str, Any], registry: str) -> CredentialHelper | None:
        helpers = config.get("credHelpers") or {}
        if not isinstance(helpers, Mapping):
            raise InvalidArgumentError(f"{self._path}: credHelpers is not an object")
        name = next((helpers[key] for key in _keys(registry) if key in helpers), config.get("credsStore") or "")
        # It becomes the name of a program.
        if not isinstance(name, str) or "/" in name or "\0" in name:
            raise InvalidArgumentError(f"{self._path}: {name!r} is not the name of a credential helper")
        return CredentialHelper(name, self._helper_timeout_s) if name else None


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of the file; they are made if there are none."""
    auths = config.get("auths")
    if not isinstance(auths, dict):
        auths = config["auths"] = {}
    return auths


def _keys(registry: str) -> tuple[str, ...]:
    """Return the names under which a registry may be known, the one to write first."""
    if registry == DEFAULT_REGISTRY:
        return (_DEFAULT_KEY, registry)
    return (registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/", f"http://{registry}")


def _from_entry(entry: Any, key: str) -> Credentials | None:
    if not isinstance(entry, Mapping) or not entry:
        return None
    fields = {name: entry.get(name) or "" for name in ("username", "password", "auth", *_TOKENS)}
    if not all(isinstance(value, str) for value in fields.values()):
        raise InvalidArgumentError(f"the credentials of {key} are not text")
    username, password = fields["username"], fields["password"]
    if fields["auth"]:
        try:
            text = base64.b64decode(fields["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"the credentials of {key} are not base64") from error
        username, _, password = text.partition(":")
    return Credentials(
        username=username,
        password=password.rstrip("\0"),
        identity_token=fields["identitytoken"],
        registry_token=fields["registrytoken"],
    )

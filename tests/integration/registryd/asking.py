"""What the tests of the HTTP API push and look at."""

import json
from typing import Any

import requests

from tests.support import images
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.private_registry import PrivateRegistry

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def code_of(answer: requests.Response) -> str:
    (error,) = answer.json()["errors"]
    assert error["message"]
    return str(error["code"])


def push_blob(served: PrivateRegistry, name: str, data: bytes) -> dict[str, Any]:
    images.push_blob(served.registry, name, data)
    return {"mediaType": "application/octet-stream", "digest": sha256(data), "size": len(data)}


def put(
    http: requests.Session, served: PrivateRegistry, name: str, reference: str, document: object, media_type: str
) -> requests.Response:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return http.put(served.url(f"{name}/manifests/{reference}"), data=data, headers={"Content-Type": media_type})


def artifact(served: PrivateRegistry, name: str, content: bytes, **more: object) -> dict[str, Any]:
    config = push_blob(served, name, b"{}") | {"mediaType": EMPTY_TYPE}
    layer = push_blob(served, name, content) | {"mediaType": "text/plain"}
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer], **more}

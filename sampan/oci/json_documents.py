"""JSON from strangers.

A few megabytes of text can become a hundred times as much in memory: empty lists cost three bytes there and seventy
here. So what is in a text is counted before it is parsed.
"""

import json
from typing import Final

from sampan.errors import RemoteError

# Values in one document; an index or a config of the largest size that is taken has a tenth of it.
MAX_VALUES: Final = 250_000


def load_json(data: bytes, what: str) -> object:
    """Parse a document; ``what`` names it in errors.

    Raises:
        RemoteError: not JSON, or with too much in it.
    """
    # Each value but the first follows one of these. That some stand inside of texts does no harm.
    if (count := data.count(b",") + data.count(b"[") + data.count(b"{")) > MAX_VALUES:
        raise RemoteError(f"{what}: has {count} values, the most is {MAX_VALUES}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"{what}: is not JSON: {error}") from error

"""Names of containers: which are allowed, made-up ones, and the refusal of one that is taken."""

import random
import re
from collections.abc import Collection
from typing import Final

from sampan import limits
from sampan.errors import ConflictError, InvalidArgumentError

_ALLOWED: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVE_WORDS: Final = """
    able agile airy amber ample azure blithe bold brave breezy bright brisk broad calm candid careful cheerful civil
    clear clever coastal cosy crisp curious daring deft eager early earnest easy fair faithful fond frank fresh
    gentle glad golden grand green hardy hasty honest humble jolly keen kind level light lively loyal lucid lucky
    mellow merry mild modest neat nimble noble open patient placid plain plucky polite prompt proud quick quiet
    rapid ready robust rosy ruddy salty serene sharp silent silver simple sleek smart smooth snug solid spry steady
    still sturdy subtle sunny sure swift tidy tranquil trim trusty upbeat vivid warm wary wise witty young zesty
"""
_ADJECTIVES: Final = tuple(_ADJECTIVE_WORDS.split())

_NOUN_WORDS: Final = """
    anchor barge bay beacon bilge binnacle boat boom bow breaker brig bulwark buoy canal canoe capstan catamaran
    channel cleat clipper coble compass coracle cove current cutter deck delta dhow dinghy dock dory drifter eddy
    estuary ferry fjord fleet frigate galley gangway gondola gull gunwale gybe harbour hatch hawser helm hull inlet
    islet jetty jib junk kayak keel ketch knot lagoon lantern launch leeway lighter lock lugger mariner marina mast
    mooring oar outrigger paddle pennant pier pilot pinnace pontoon port prow punt quay raft reef rigging river
    rudder sail schooner sextant shoal shore skiff sloop spar spinnaker sprit starboard stern surf tackle tender
    tide tiller towpath trawler tug voyage wake wharf wherry winch yacht yawl
"""
_NOUNS: Final = tuple(_NOUN_WORDS.split())


def check_name(name: str) -> str:
    """Return ``name`` without a leading slash.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    bare = name.removeprefix("/")
    if not _ALLOWED.fullmatch(bare):
        raise InvalidArgumentError(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    limits.check_name(bare, "container name")
    return bare


def make_up_name(taken: Collection[str], choose: random.Random) -> str:
    """Return a name that is not in ``taken``."""
    for attempt in range(1000):
        name = f"{choose.choice(_ADJECTIVES)}_{choose.choice(_NOUNS)}"
        if attempt > 5:  # the engine is crowded: a digit makes room
            name += str(choose.randrange(10 ** (1 + attempt // 50)))
        if name not in taken:
            return name
    raise AssertionError("a thousand random names were all taken")


def in_use(name: str, owner: str) -> ConflictError:
    """Return the refusal of a name that the container ``owner`` has; Docker's words."""
    return ConflictError(
        f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )

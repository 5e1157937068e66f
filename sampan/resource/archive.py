"""Paths in containers, as ``docker cp`` sees them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathStat:
    """What a path is; a link is not followed."""

    name: str
    size_bytes: int
    mode: int  # st_mode
    modified_ns: int  # since 1970
    link_target: str = ""  # absolute, within the container

"""Draw the pictures of docs/pictures from the texts beside them, so that they change with what they show.

python tools/pictures.py            # write
python tools/pictures.py --check    # exit 1 if a picture is not what its text says

A text has lines of three kinds: ``title: …``; ``row: name = caption | name = caption`` for boxes beside each other, the
names of which say where arrows begin and end; and ``arrow: from -> to: caption``. Rows come one below the other.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs/pictures"

_WIDTH, _BOX, _GAP, _TOP, _STEP, _LINE = 960, 44, 24, 64, 104, 17
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">\n'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="#456"/></marker></defs>\n'
    '<rect width="100%" height="100%" fill="#fff"/>\n'
)


@dataclass(frozen=True, slots=True)
class Box:
    """One box, where it is."""

    caption: str
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        """Its middle, from the left."""
        return self.x + self.width / 2

    def within(self, x: float) -> float:
        """The place at its edge that is nearest to ``x``."""
        return min(max(x, self.x + _GAP / 2), self.x + self.width - _GAP / 2)


@dataclass(slots=True)
class Picture:
    """What a text says."""

    title: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)
    rows: int = 0


def read(text: str) -> Picture:
    """Read a text. ValueError: a line that is none of the three, or an arrow from or to no box."""
    picture = Picture()
    for line in filter(None, map(str.strip, text.splitlines())):
        kind, _, rest = line.partition(": ")
        if kind == "title":
            picture.title = rest
        elif kind == "row":
            _add_row(picture, [part.partition("=") for part in rest.split(" | ")])
        elif kind == "arrow" and (match := re.fullmatch(r"(\w+) -> (\w+)(?:: (.*))?", rest)):
            if not {match[1], match[2]} <= picture.boxes.keys():
                raise ValueError(f"no such box: {line}")
            picture.arrows.append((match[1], match[2], match[3] or ""))
        else:
            raise ValueError(f"not understood: {line}")
    return picture


def _add_row(picture: Picture, parts: Sequence[tuple[str, str, str]]) -> None:
    width = (_WIDTH - _GAP * (len(parts) + 1)) / len(parts)
    for index, (name, _, caption) in enumerate(parts):
        x, y = _GAP + index * (width + _GAP), _TOP + picture.rows * _STEP
        picture.boxes[name.strip()] = Box(caption.strip(), x, y, width)
    picture.rows += 1


def draw(picture: Picture) -> str:
    """Return the SVG."""
    height = _TOP + picture.rows * _STEP - (_STEP - _BOX) + _GAP
    parts = [_HEAD.format(width=_WIDTH, height=height)]
    parts.append(f'<text x="{_GAP}" y="34" font-size="18" font-weight="bold">{escape(picture.title)}</text>\n')
    parts += [line for arrow in picture.arrows for line in _arrow(picture, *arrow)]
    parts += [line for box in picture.boxes.values() for line in _box(box)]
    return "".join([*parts, "</svg>\n"])


def _box(box: Box) -> Iterator[str]:
    yield (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{_BOX}" rx="6" '
        'fill="#eef4fa" stroke="#456"/>\n'
    )
    lines = box.caption.split("; ")
    first = box.y + _BOX / 2 + 5 - (len(lines) - 1) * _LINE / 2
    for index, line in enumerate(lines):
        yield f'<text x="{box.middle:.0f}" y="{first + index * _LINE:.0f}" text-anchor="middle">{escape(line)}</text>\n'


def _arrow(picture: Picture, begin: str, end: str, caption: str) -> Iterator[str]:
    a, b = picture.boxes[begin], picture.boxes[end]
    if a.y == b.y:  # beside each other
        x1, x2 = (a.x + a.width, b.x) if a.x < b.x else (a.x, b.x + b.width)
        y1 = y2 = a.y + _BOX / 2
        place = (x1 + x2) / 2, a.y - 6
    else:
        aside = (b.middle - a.middle) / 4
        x1, x2 = a.within(a.middle + aside), b.within(b.middle - aside)
        y1, y2 = (a.y + _BOX, b.y) if a.y < b.y else (a.y, b.y + _BOX)
        place = (x1 + x2) / 2, (y1 + y2) / 2 + 4
    yield f'<path d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}" stroke="#456" fill="none" marker-end="url(#tip)"/>\n'
    if caption:
        yield (
            f'<text x="{place[0]:.0f}" y="{place[1]:.0f}" text-anchor="middle" fill="#234" font-size="11" '
            f'stroke="#fff" stroke-width="4" paint-order="stroke">{escape(caption)}</text>\n'
        )


def main(arguments: Sequence[str]) -> int:
    """Write, or check."""
    wanted = {path.with_suffix(".svg"): draw(read(path.read_text())) for path in sorted(FOLDER.glob("*.txt"))}
    if list(arguments) == ["--check"]:
        wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        for path in wrong:
            print(f"{path.name} is not what its text says: run tools/pictures.py")
        return 1 if wrong else 0
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Header and Card: parse and format the 80-byte cards of the FITS standard 4.0, section 4. No I/O."""

from __future__ import annotations

import functools
import math
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from torchfits._direct import card_value
from torchfits.errors import FitsFormatError, FitsWarning, KeywordMissing

CARD = 80
BLOCK = 2880
COMMENTARY = frozenset(("COMMENT", "HISTORY", ""))
_COMMENTARY = frozenset(keyword.ljust(8).encode() for keyword in COMMENTARY)

Value = bool | int | float | complex | str | None

_END = re.compile(rb"END {77}|END *$")
_STRING = re.compile(r" *'((?:[^']|'')*)' *(?:/(.*))?$", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d+$")
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?$")
_COMPLEX = re.compile(r"\( *([^ ,]+) *, *([^ ,)]+) *\)$")
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}$")
_HIERARCH = re.compile(r"[!-<>-~]+(?: [!-<>-~]+)*$")  # printable words, no '='
_PRINTABLE = re.compile(r"[ -~]*$")
_STANDARD = re.compile(rb"[A-Z0-9_-]* *")  # the first 8 bytes of a card


class Card:
    """One keyword with its value and comment; a long string spans several 80-byte records.

    A card that was read keeps its bytes, so that it is written as it was. Cards do not change: assign to
    the header instead, `h['KEY'] = value, comment`.

    Args:
        keyword: In capitals up to 8 of A-Z 0-9 _ -; anything longer becomes a HIERARCH card.
        value: bool, int, float, complex, str, or None for an undefined value.
        comment: Printable ASCII.

    Raises:
        FitsFormatError: What a FITS header cannot hold, such as NaN, a line break or 'é'.

    Example:
        >>> bytes(Card('EXPTIME', 30.5, 'seconds')).rstrip()
        b'EXPTIME =                 30.5 / seconds'
    """

    __slots__ = {
        "_raw": "The bytes it was read from, None where it was made.",
        "comment": "The text after the slash.",
        "keyword": "In capitals; of a HIERARCH card, what follows that word.",
        "problem": "What is not standard about the card that was read, '' where nothing is.",
        "value": "bool, int, float, complex, str, or None for an undefined value.",
    }

    keyword: str
    value: Value
    comment: str
    problem: str
    _raw: bytes | None

    def __init__(self, keyword: str, value: Value = None, comment: str = ""):
        keyword = _valid_keyword(keyword)
        self._fill(None, keyword, _valid_value(keyword, value), _valid_text(keyword, comment), "")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Card:
        """The card in `raw`: one record of 80 bytes, and the CONTINUE records after it."""
        card = cls.__new__(cls)
        card._fill(raw, *_parse(raw))
        return card

    def _fill(self, raw: bytes | None, keyword: str, value: Value, comment: str, problem: str) -> None:
        put = object.__setattr__
        put(self, "_raw", raw)
        put(self, "keyword", keyword)
        put(self, "value", value)
        put(self, "comment", comment)
        put(self, "problem", problem)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cards do not change; assign to the header: h[{self.keyword!r}] = ...")

    def __reduce__(self) -> tuple:
        if self._raw is not None:
            return Card.from_bytes, (self._raw,)
        return Card, (self.keyword, self.value, self.comment)

    def to_bytes(self) -> bytes:
        """The 80-byte records of this card."""
        return self._raw if self._raw is not None else _format(self.keyword, self.value, self.comment)

    __bytes__ = to_bytes

    @property
    def _odd(self) -> bool:
        """Whether the keyword is spelt in another way than the standard's."""
        if self._raw is None:
            return self.keyword not in COMMENTARY and not _KEYWORD.match(self.keyword)
        return _is_odd(self._raw[:8])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Card):
            return NotImplemented
        return (self.keyword, self.value, self.comment) == (other.keyword, other.value, other.comment)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raw = bytes(self).decode("latin-1")
        return "\n".join(raw[i : i + CARD].rstrip() for i in range(0, len(raw), CARD))

    def __repr__(self) -> str:
        return f"Card({self.keyword!r}, {self.value!r}, {self.comment!r})"


# ---------------------------------------------------------------------------- parsing


def _parse(raw: bytes) -> tuple[str, Value, str, str]:
    """(keyword, value, comment, what is not standard) of a card."""
    text = raw.decode("latin-1")
    problem = "" if raw.isascii() and text.isprintable() else "bytes that are no text"
    text = text[:CARD]
    keyword, rest = _split(text)
    if rest is None:
        if keyword not in COMMENTARY and keyword != "CONTINUE":
            problem = problem or "no value indicator '= '"
        return keyword, text[8:].rstrip(), "", problem
    if not text.startswith("HIERARCH ") and not _KEYWORD.match(keyword):
        problem = problem or "a keyword of other characters"
    match = _STRING.match(rest) if "'" in rest else None
    if match is not None:
        value, comment = match[1].replace("''", "'").rstrip(" "), match[2] or ""
        if len(raw) > CARD:
            value, comment = _continued(raw, value, comment)
        return keyword, value, comment.strip(), problem
    number, _, comment = rest.partition("/")
    try:
        return keyword, _typed(number.strip(" ")), comment.strip(), problem
    except ValueError:
        return keyword, rest.strip(), "", problem or f"a value that is none: {rest.strip()!r}"


def _is_odd(key: bytes) -> bool:
    """Whether a card that begins with these 8 bytes may be known by another keyword than they spell."""
    return key == b"HIERARCH" or not _STANDARD.fullmatch(key)


def _split(text: str) -> tuple[str, str | None]:
    """(keyword, what follows the value indicator, or None where there is none) of a record."""
    keyword = text[:8].rstrip()
    if keyword == "HIERARCH" and text[8:9] == " ":
        name, indicator, rest = text[9:].partition("=")
        name = " ".join(name.split()).upper()
        return (name, rest) if indicator and name not in COMMENTARY else (keyword, None)
    if text[8:10] != "= " or keyword in COMMENTARY or keyword == "CONTINUE":
        return keyword, None
    return keyword, text[10:]


def _continued(raw: bytes, value: str, comment: str) -> tuple[str, str]:
    values, comments = [value], [comment.strip()]
    for i in range(CARD, len(raw), CARD):
        match = _STRING.match(raw[i + 8 : i + CARD].decode("latin-1"))
        if match is not None:  # _records takes only those that match
            values[-1] = values[-1].removesuffix("&")
            values.append(match[1].replace("''", "'").rstrip(" "))
            comments.append((match[2] or "").strip())
    return "".join(values).rstrip(" "), " ".join(filter(None, comments))


def _typed(text: str) -> Value:
    if text in ("T", "F"):
        return text == "T"
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text.upper().replace("D", "E"))
    if not text:
        return None
    match = _COMPLEX.match(text)
    if match is None or not (_FLOAT.match(match[1]) and _FLOAT.match(match[2])):
        raise ValueError(text)
    return complex(*(float(part.upper().replace("D", "E")) for part in match.groups()))


def _span(data: bytes, start: int) -> int:
    """Where the card at `start` ends: after the CONTINUE records that carry its string on."""
    end = start + CARD
    if data[end : end + 10] != b"CONTINUE  ":
        return end
    rest = _split(data[start:end].decode("latin-1"))[1]
    match = _STRING.match(rest) if rest is not None else None
    while match is not None and match[1].rstrip(" ").endswith("&") and data[end : end + 10] == b"CONTINUE  ":
        match = _STRING.match(data[end + 8 : end + CARD].decode("latin-1"))
        if match is not None:
            end += CARD
    return end


# ---------------------------------------------------------------------------- formatting


def _valid_keyword(keyword: str) -> str:
    if not isinstance(keyword, str):
        raise TypeError(f"a keyword is a str, not {keyword!r}")
    name = _plain(keyword)
    if name in COMMENTARY or _KEYWORD.match(name) or (_HIERARCH.match(name) and len(name) <= 60):
        if name in ("END", "CONTINUE"):
            raise FitsFormatError(f"{name} is no keyword that can be set")
        return name
    raise FitsFormatError(f"{keyword!r} cannot be a keyword")


def _valid_value(keyword: str, value: Any) -> Value:
    if not isinstance(value, (bool, int, float, complex, str, type(None))) and hasattr(value, "item"):
        value = value.item()  # scalars of torch and numpy
    if isinstance(value, str):
        return _valid_text(keyword, value)
    if not isinstance(value, (bool, int, float, complex, type(None))):
        raise FitsFormatError(f"{keyword}: a header holds no {type(value).__name__}")
    parts = (value.real, value.imag) if isinstance(value, (float, complex)) else ()
    if not all(map(math.isfinite, parts)):
        raise FitsFormatError(f"{keyword} = {value}: a header holds finite numbers only")
    if len(_literal(value)) > CARD - 10:
        raise FitsFormatError(f"{keyword}: the number is longer than a card")
    return value


def _valid_text(keyword: str, text: str) -> str:
    if not isinstance(text, str):
        raise FitsFormatError(f"{keyword}: text must be str, not {text!r}")
    if not _PRINTABLE.match(text) or "\n" in text:
        raise FitsFormatError(f"{keyword}: {text!r} is not printable ASCII")
    return text if keyword in COMMENTARY else text.rstrip(" ")


def _literal(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, complex):
        return f"({_literal(value.real)}, {_literal(value.imag)})"
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + ("" if "." in mantissa else ".0") + e.upper() + exponent
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted:<8}'"
    return str(value)


def _format(keyword: str, value: Value, comment: str) -> bytes:
    if keyword in COMMENTARY:
        text = "" if value is None else str(value)
        pieces = [text[i : i + 72] for i in range(0, len(text), 72)] or [""]
        return "".join(f"{keyword:<8}{piece:<72}" for piece in pieces).encode("ascii")
    name = f"{keyword:<8}= " if _KEYWORD.match(keyword) else f"HIERARCH {keyword} = "
    literal = _literal(value)
    # fixed format: strings from column 11, other values up to column 30
    field = f"{literal:<20}" if isinstance(value, str) else f"{literal:>20}"
    field = field if _KEYWORD.match(keyword) else literal
    card = f"{name}{field} / {comment}" if comment else f"{name}{field}"
    if len(card.rstrip()) <= CARD:
        return f"{card:<{CARD}}"[:CARD].encode("ascii")
    if isinstance(value, str):
        return _format_long(name, value, comment)
    if len(name + field) > CARD:
        raise FitsFormatError(f"{keyword}: keyword and value are longer than a card")
    warnings.warn(f"{keyword}: the comment is cut to fit its card", FitsWarning, stacklevel=4)
    kept = comment[: max(CARD - len(name + field) - 3, 0)].rstrip()
    card = f"{name}{field} / {kept}" if kept else f"{name}{field}"
    return f"{card:<{CARD}}".encode("ascii")


def _format_long(name: str, value: str, comment: str) -> bytes:
    """A string, or its comment, too long for one record: carried on by CONTINUE (section 4.2.1.2)."""
    quoted, room = value.replace("'", "''"), CARD - len(name) - 3  # two quotes and the &
    parts: list[tuple[str, str]] = []
    while len(quoted) > room or not parts:
        cut = room - quoted[:room].count("'") % 2  # a doubled quote stays together
        parts.append((quoted[:cut], ""))
        quoted, room = quoted[cut:], CARD - len("CONTINUE  ''&")
    if quoted:
        parts.append((quoted, ""))
    lines = textwrap.wrap(comment, CARD - len("CONTINUE  '&' / "))
    if len(lines) == 1 and len(parts) > 1 and len(parts[-1][0]) + len(lines[0]) <= room - 2:
        parts[-1] = parts[-1][0], lines.pop()
    parts += [("", line) for line in lines]
    records = ""
    for i, (text, remark) in enumerate(parts):
        more = "&" if i + 1 < len(parts) else ""
        record = f"{'CONTINUE  ' if i else name}'{text}{more}'" + (f" / {remark}" if remark else "")
        records += f"{record:<{CARD}}"
    return records.encode("ascii")


# ---------------------------------------------------------------------------- headers


class Header:
    """The cards of one HDU in their order: a dict of keywords that may repeat.

    Keywords are taken in any case, HIERARCH keywords with or without that word. `h['KEY']` is the
    first value of KEY, `h['KEY', n]` that of its n-th card, `h['COMMENT']`, `h['HISTORY']` and
    `h['']` are lists of str. Assigning replaces the first card in its place and keeps its comment, or
    appends; `h['KEY'] = value, comment` sets both. Cards that are not standard are kept as text, with one
    FitsWarning a header. Values are parsed when they are asked for.

    Args:
        cards: A mapping, or an iterable of Card, (keyword, value) or (keyword, value, comment).

    Raises:
        FitsFormatError: What a header cannot hold.

    Example:
        >>> h = Header({'OBJECT': 'M 31', 'EXPTIME': (30.5, 'seconds')})
        >>> h['exptime'], h.comments['EXPTIME'], 'OBJECT' in h
        (30.5, 'seconds', True)
    """

    __slots__ = ("_cards", "_data", "_first", "_index", "_warned")

    def __init__(self, cards: Any = ()):
        self._data = b""  # what was read, while no card is changed
        self._cards: list[Card] | None = []
        self._first: dict[bytes, int] | None = None
        self._index: dict[str, list[int]] | None = None
        self._warned = False
        if isinstance(cards, Header):
            cards = cards.cards
        for item in cards.items() if hasattr(cards, "items") else cards:
            self.append(item)

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The header in `data`, whole 80-byte cards up to END or to the end."""
        header = cls()
        ends = (match.start() for match in _END.finditer(data) if match.start() % CARD == 0)
        end = next(ends, len(data) // CARD * CARD)
        header._data, header._cards = data[:end], None
        return header

    def to_bytes(self) -> bytes:
        """The cards, END, and blanks up to a whole number of 2880-byte blocks."""
        data = self._data if self._cards is None else b"".join(map(bytes, self._cards))
        data += b"END".ljust(CARD)
        return data + b" " * (-len(data) % BLOCK)

    # -- finding cards

    @property
    def cards(self) -> list[Card]:
        """The cards in their order; change them through the header."""
        return list(self._all())

    def _all(self) -> list[Card]:
        if self._cards is None:
            data, start, cards, bad = self._data, 0, [], []
            while start < len(data):
                end = _span(data, start)
                card = Card.from_bytes(data[start:end])
                cards.append(card)
                if card.problem:
                    bad.append((card, start))
                start = end
            self._cards = cards
            if bad:
                self._warn(*bad[0], len(bad) - 1)
        return self._cards

    def _warn(self, card: Card, at: int, others: int = 0) -> None:
        if card.problem and not self._warned:
            self._warned = True
            more = f", and {others} more cards" if others else ""
            warnings.warn(
                f"card {at // CARD + 1}, {card.keyword!r}, is not standard ({card.problem}){more};"
                " kept as text",
                FitsWarning,
                stacklevel=4,
            )

    def _places(self, keyword: str) -> list[int]:
        """Indices in `_all()` of the cards of a keyword."""
        if self._index is None:
            index: dict[str, list[int]] = {}
            # the keyword itself comes before odd spellings of it (HIERARCH, lower case), as in _records
            for i, card in sorted(enumerate(self._all()), key=lambda item: item[1]._odd):
                index.setdefault(_plain(card.keyword), []).append(i)
            self._index = index
        return self._index.get(_plain(keyword), [])

    def _find(self, keyword: str) -> Card | None:
        """The first card of a keyword, without parsing the others where that is possible."""
        if self._cards is None:
            at = self._record(keyword)
            if at is not None:
                card = Card.from_bytes(self._data[at : _span(self._data, at)])
                self._warn(card, at)
                return card
            if _plain(keyword) != "CONTINUE":
                return None
        places = self._places(keyword)
        return self._all()[places[0]] if places else None

    def _records(self) -> dict[bytes, int]:
        """First byte of the first card of each keyword, blank-padded to 8 bytes."""
        if self._first is None:
            data = self._data
            # from the back, so that the first one stays
            first = {data[i : i + 8]: i for i in range(len(data) - CARD, -1, -CARD)}
            odd = set(filter(_is_odd, first))
            if odd:
                for key in odd:
                    del first[key]
                for i in range(0, len(data), CARD):
                    if data[i : i + 8] in odd:
                        keyword = _split(data[i : i + CARD].decode("latin-1"))[0]
                        first.setdefault(_key(keyword), i)
            self._first = first
        return self._first

    def _record(self, keyword: str) -> int | None:
        """First byte of the first card of a keyword; CONTINUE may be a part of another card."""
        key = _key(keyword)
        return None if key == b"CONTINUE" else self._records().get(key)

    def position(self, keyword: str, n: int = 0) -> int | None:
        """Which 80-byte record, from 0, the n-th card of `keyword` begins in; None where there is none."""
        if self._cards is None and n == 0 and (at := self._record(keyword)) is not None:
            return at // CARD
        places = self._places(keyword)
        if not -len(places) <= n < len(places):
            return None
        return sum(len(bytes(card)) for card in self._all()[: places[n]]) // CARD

    # -- reading

    def __getitem__(self, key: str | tuple[str, int]) -> Any:
        if isinstance(key, str) and (value := self._simple(key)) is not NotImplemented:
            return value
        keyword, n = key if isinstance(key, tuple) else (key, 0)
        if _plain(keyword) in COMMENTARY and not isinstance(key, tuple):
            return self.getall(keyword)
        if n == 0:
            card = self._find(keyword)
            if card is None:
                raise KeywordMissing(f"no keyword {keyword}")
            return card.value
        places = self._places(keyword)
        if not -len(places) <= n < len(places):
            raise KeywordMissing(f"{len(places)} cards of {keyword}, none of index {n}")
        return self._all()[places[n]].value

    def get(self, keyword: str, default: Any = None) -> Any:
        """The first value of a keyword, or `default`."""
        value = self._simple(keyword)
        if value is not NotImplemented:
            return value
        if _plain(keyword) in COMMENTARY:
            return self.getall(keyword) or default
        card = self._find(keyword)
        return default if card is None else card.value

    def _simple(self, keyword: str) -> Any:
        """The value of the first card of a keyword, where that is simple and no card was changed."""
        if self._cards is not None:
            return NotImplemented
        data, at = self._data, self._record(keyword)
        if at is None or data[at + CARD : at + CARD + 8] == b"CONTINUE":
            return NotImplemented
        key = data[at : at + 8]
        return NotImplemented if key in _COMMENTARY or _is_odd(key) else card_value(data, at)

    def getall(self, keyword: str) -> list:
        """The values of all cards of a keyword, [] where there is none."""
        return [self._all()[i].value for i in self._places(keyword)]

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and self._find(keyword) is not None

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[str]:
        return iter([card.keyword for card in self._all()])

    def keys(self) -> list[str]:
        """The keywords, as often as they come."""
        return list(self)

    def values(self) -> list:
        """The value of every card."""
        return [card.value for card in self._all()]

    def items(self) -> list[tuple[str, Any]]:
        """(keyword, value) of every card."""
        return [(card.keyword, card.value) for card in self._all()]

    @property
    def comments(self) -> Comments:
        """The comments by keyword; may be assigned to."""
        return Comments(self)

    # -- changing

    def append(self, item: Any) -> None:
        """Add a Card, (keyword, value) or (keyword, value, comment) at the end."""
        card = item if isinstance(item, Card) else self._card(*item)
        index, cards, name = self._index, self._changed(), _plain(card.keyword)
        cards.append(card)
        if index is not None and name not in index:
            index[name] = [len(cards) - 1]
            self._index = index

    @staticmethod
    def _card(keyword: str, value: Any = None, comment: str = "") -> Card:
        if isinstance(value, tuple):
            value, comment = value
        return Card(keyword, value, comment)

    def _changed(self) -> list[Card]:
        cards = self._all()
        self._data, self._first, self._index = b"", None, None
        return cards

    def __setitem__(self, key: str | tuple[str, int], value: Any) -> None:
        keyword, n = key if isinstance(key, tuple) else (key, 0)
        comment = None
        if isinstance(value, tuple):
            value, comment = value
        places = self._places(keyword)
        if n and not -len(places) <= n < len(places):
            raise KeywordMissing(f"{len(places)} cards of {keyword}, none of index {n}")
        if not places:
            self.append(Card(keyword, value, comment or ""))
            return
        old = self._all()[places[n]]
        self._replace(places[n], Card(old.keyword, value, old.comment if comment is None else comment))

    def _replace(self, place: int, card: Card) -> None:
        index = self._index if self._all()[place]._odd == card._odd else None
        self._changed()[place] = card
        self._index = index

    def __delitem__(self, key: str | tuple[str, int]) -> None:
        keyword, n = key if isinstance(key, tuple) else (key, None)
        places = self._places(keyword)
        if not places or (n is not None and not -len(places) <= n < len(places)):
            raise KeywordMissing(f"no keyword {keyword}")
        gone = set(places if n is None else [places[n]])
        cards = self._changed()
        cards[:] = [card for i, card in enumerate(cards) if i not in gone]

    def update(self, other: Any) -> None:
        """Set every keyword of a mapping, of (keyword, value) pairs or of a Header, whose comments come too.

        COMMENT, HISTORY and blank cards of a Header are added.
        """
        if isinstance(other, Header):
            for card in other.cards:
                places = [] if card.keyword in COMMENTARY else self._places(card.keyword)
                if places:
                    self._replace(places[0], card)
                else:
                    self.append(card)
            return
        for keyword, value in other.items() if hasattr(other, "items") else other:
            self[keyword] = value

    def add_comment(self, text: str) -> None:
        """Append COMMENT cards, as many as the text needs."""
        self._add("COMMENT", text)

    def add_history(self, text: str) -> None:
        """Append HISTORY cards, as many as the text needs."""
        self._add("HISTORY", text)

    def _add(self, keyword: str, text: str) -> None:
        for line in text.split("\n"):
            for i in range(0, max(len(line), 1), 72):
                self._changed().append(Card(keyword, line[i : i + 72]))

    # -- the object itself

    def copy(self) -> Header:
        """A header of its own with the same cards."""
        other = Header()
        other._data, other._first, other._warned = self._data, self._first, self._warned
        # cards are never changed in place, so they may be shared
        other._cards = None if self._cards is None else list(self._cards)
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Header:
        return self.copy()

    def __reduce__(self) -> tuple:
        return Header.from_bytes, (self.to_bytes(),), (None, {"_warned": self._warned})

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Header) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "\n".join(map(str, self._all()))

    def __repr__(self) -> str:
        return f"<Header of {len(self)} cards>"


class Comments:
    """The comments of a header by keyword."""

    def __init__(self, header: Header):
        self._header = header

    def __getitem__(self, keyword: str) -> str:
        card = self._header._find(keyword)
        if card is None:
            raise KeywordMissing(f"no keyword {keyword}")
        return card.comment

    def __setitem__(self, keyword: str, comment: str) -> None:
        self._header[keyword] = self._header[keyword], comment


def _plain(keyword: str) -> str:
    """A keyword as it is compared: in capitals, without the word HIERARCH."""
    return " ".join(keyword.split()).upper().removeprefix("HIERARCH ")


@functools.lru_cache(maxsize=1024)
def _key(keyword: str) -> bytes:
    """A keyword as it stands in `_records`."""
    return _plain(keyword).encode("utf-8", "surrogatepass").ljust(8)

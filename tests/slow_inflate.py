"""DEFLATE (RFC 1951) in plain Python, bit by bit: a second oracle, which tells where the blocks begin."""

from __future__ import annotations

from dataclasses import dataclass

ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
# least value and further bits
LENGTHS = [(3 + i, 0) for i in range(8)]
LENGTHS += [(3 + ((4 + i % 4) << i // 4 - 1), i // 4 - 1) for i in range(8, 28)] + [(258, 0)]
DISTANCES = [(1 + i, 0) for i in range(4)]
DISTANCES += [(1 + ((2 + i % 2) << i // 2 - 1), i // 2 - 1) for i in range(4, 30)]


@dataclass
class Block:
    start: int  # bit
    is_last: bool
    kind: int  # 0 stored, 1 fixed codes, 2 codes of its own
    made: int = 0


class _Bits:
    def __init__(self, stream: bytes):
        self.all, self.at, self.end = int.from_bytes(stream, "little"), 0, 8 * len(stream)

    def take(self, n: int) -> int:
        value = self.all >> self.at & ((1 << n) - 1)
        self.at += n
        if self.at > self.end:
            raise ValueError("the stream is cut short")
        return value


def _codes(lengths: list[int]) -> dict[tuple[int, int], int]:
    """Symbols by the length of their code and the code."""
    found, code = {}, 0
    for bits in range(1, 16):
        code <<= 1
        for symbol, length in enumerate(lengths):
            if length == bits:
                found[bits, code] = symbol
                code += 1
    return found


def _symbol(bits: _Bits, codes: dict[tuple[int, int], int]) -> int:
    code = 0
    for length in range(1, 16):
        code = code << 1 | bits.take(1)
        if (length, code) in codes:
            return codes[length, code]
    raise ValueError("no such code")


def _own_codes(bits: _Bits) -> tuple[dict, dict]:
    literals, distances, count = 257 + bits.take(5), 1 + bits.take(5), 4 + bits.take(4)
    of_lengths = [0] * 19
    for place in ORDER[:count]:
        of_lengths[place] = bits.take(3)
    codes, lengths = _codes(of_lengths), []
    while len(lengths) < literals + distances:
        symbol = _symbol(bits, codes)
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            lengths += [lengths[-1]] * (3 + bits.take(2))
        else:
            lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return _codes(lengths[:literals]), _codes(lengths[literals:])


def inflate_slowly(stream: bytes) -> tuple[bytes, list[Block]]:
    """What a bare stream of DEFLATE makes, and its blocks."""
    bits, out, blocks = _Bits(stream), bytearray(), []
    while not (blocks and blocks[-1].is_last):
        block = Block(bits.at, bool(bits.take(1)), bits.take(2))
        blocks.append(block)
        before = len(out)
        if block.kind == 0:
            bits.at = (bits.at + 7) // 8 * 8
            size, _ = bits.take(16), bits.take(16)
            out += bytes(bits.take(8) for _ in range(size))
        else:
            literals, distances = (
                _own_codes(bits)
                if block.kind == 2
                else (_codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), _codes([5] * 30))
            )
            while (symbol := _symbol(bits, literals)) != 256:
                if symbol < 256:
                    out.append(symbol)
                    continue
                least, more = LENGTHS[symbol - 257]
                length = least + bits.take(more)
                least, more = DISTANCES[_symbol(bits, distances)]
                distance = least + bits.take(more)
                for _ in range(length):
                    out.append(out[-distance])
        block.made = len(out) - before
    return bytes(out), blocks

"""WebP: the size in the header, and the quality of a lossy file estimated from its quantisers.

Pillow and libwebp do not tell the quality. The quantisers stand in the first partition of the VP8 frame, coded as bools:
RFC 6386, sections 7.3, 9.2 to 9.6 and 19.2.
"""

import numpy as np

ENOUGH = 256  # bytes of a frame that hold its quantisers
FRAME_HEADER = 10  # bytes of the frame's tag, start code and size
# The largest quantiser index of four segments, and the quality that was asked for. Measured with libwebp 1.6 as Pillow
# calls it, on 24 photographs, all alike; other settings of its "spatial noise shaping" give other numbers.
LARGEST_OF_SEGMENTS = (0, 6, 12, 20, 27, 36, 39, 45, 52, 59, 68, 78, 92, 115)
QUALITY = (100, 95, 90, 85, 80, 75, 70, 60, 50, 40, 30, 20, 10, 1)


class _Bools:
    """The bool decoder of RFC 6386, section 7.3, for bools of even odds."""

    def __init__(self, data: bytes):
        self._data, self._position, self._range, self._value, self._bits = data, 2, 255, 0, 0
        self._value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")

    def flag(self) -> bool:
        """The next bool."""
        split = 1 + (((self._range - 1) * 128) >> 8)
        one = self._value >= split << 8
        if one:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._bits += 1
            if self._bits == 8:
                self._bits = 0
                self._value |= self._data[self._position] if self._position < len(self._data) else 0
                self._position += 1
        return one

    def number(self, bits: int) -> int:
        """The next number, its highest bit first."""
        value = 0
        for _ in range(bits):
            value = 2 * value + self.flag()
        return value

    def optional(self, bits: int) -> int:
        """A flag, and if it is set a number and its sign; else 0."""
        if not self.flag():
            return 0
        value = self.number(bits)
        return -value if self.flag() else value


def quantisers(frame: bytes) -> list[int]:
    """The quantiser indices of a VP8 key frame, 0 to 127: one, or one for each of four segments."""
    bools = _Bools(frame[FRAME_HEADER:])
    bools.number(2)  # colour space, clamping
    segments, absolute = [], False
    if bools.flag():
        update_map, update_values = bools.flag(), bools.flag()
        if update_values:
            absolute = bools.flag()
            segments = [bools.optional(7) for _ in range(4)]
            for _ in range(4):
                bools.optional(6)  # loop filter
        for _ in range(3 * update_map):
            if bools.flag():
                bools.number(8)  # odds of a segment
    bools.number(10)  # loop filter: type, level, sharpness
    if bools.flag() and bools.flag():
        for _ in range(8):
            bools.optional(6)  # loop filter, by reference and by mode
    bools.number(2)  # partitions
    base = bools.number(7)
    return [value if absolute else base + value for value in segments] or [base]


def quality_of(frame: bytes) -> int:
    """The quality of a VP8 key frame on libwebp's scale, 1 to 100, estimated from its quantisers."""
    indices = quantisers(frame)
    if len(indices) > 1:
        return max(1, round(float(np.interp(max(indices), LARGEST_OF_SEGMENTS, QUALITY))))
    # A single segment gets 127 * (1 - cube root of x), where x is 2 q / 3 below q = 0.75 and 2 q - 1 above.
    coarse = (1 - min(max(indices[0], 0), 127) / 127) ** 3
    return max(1, round(100 * (1.5 * coarse if coarse < 0.5 else (coarse + 1) / 2)))


def size(start: bytes) -> tuple[int, int]:
    """Width and height from a file's first 30 bytes.

    Raises:
        ValueError: it does not begin with a WebP header.
    """
    kind, body = start[12:16], start[20:30]
    if len(body) < 10:
        raise ValueError("the header is cut short")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ValueError("no WebP header")

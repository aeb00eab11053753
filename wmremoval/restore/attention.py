"""The self-attention of `FastNet`: over the whole map or in overlapping windows, in parts that fit into memory."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SCORE_VALUES = 2**22  # attention scores in memory at once on a CPU: 16 MB in float32. Chosen, not measured.


def attended(x: Tensor, query_key: Tensor, window: int | None) -> Tensor:
    """Self-attention, added to its input.

    Args:
        x: the input, which also gives the values, (B, C, H, W).
        query_key: queries in the first half of the channels, keys in the second, (B, C, H, W).
        window: side of the windows, positions; None: attention over the whole map.
    """
    height, width = x.shape[-2:]
    values, query_key = x.permute(0, 2, 3, 1), query_key.permute(0, 2, 3, 1)  # (B, H, W, C)
    query, key = query_key.chunk(2, dim=-1)
    if window is None or max(height, width) <= window:
        context = attention(*(m.flatten(1, 2) for m in (query, key, values))).view_as(values)
    else:
        context = windowed(query, key, values, window)
    return (values + context).permute(0, 3, 1, 2)


def windowed(query: Tensor, key: Tensor, values: Tensor, window: int) -> Tensor:
    """Self-attention within overlapping square windows, blended.

    In both directions, a window starts at every multiple of half its side. The last window is the first that reaches
    the end of the map, and is cut there. Up to four windows cover a position. Their results are blended with
    `hat_weights`.

    Args:
        query, key: (B, H, W, C/2), contiguous along the channels, scaled.
        values: (B, H, W, C).
        window: side of a window, positions.

    Returns:
        a new tensor, (B, H, W, C).
    """
    height, width = values.shape[1:3]
    down, across = (hat_weights(side, window).to(values) for side in (height, width))  # (2, H), (2, W)
    blended = torch.zeros_like(values)
    for rows in window_groups(height, window):
        for columns in window_groups(width, window):
            area = (slice(None), rows.extent, columns.extent)
            counts = (-1, rows.count, columns.count, rows.length, columns.length, values.shape[-1])

            q, k, v = (windows_of(m[area], rows, columns) for m in (query, key, values))
            context = attention(q, k, v).view(counts).transpose(2, 3)  # (B, rows, length, columns, length, C)
            weights = down[rows.parity, rows.extent, None, None] * across[columns.parity, None, columns.extent, None]
            blended[area].addcmul_(context.flatten(3, 4).flatten(1, 2), weights)
    return blended


class Group(NamedTuple):
    """Consecutive windows along one side of the map: `count` windows of `length` positions each, the first at `start`.

    `parity` is 0 for windows that start at an even multiple of half the side of a window, 1 for the others.
    """

    parity: int
    start: int
    count: int  # type: ignore[assignment]  # hides `tuple.count`
    length: int

    @property
    def extent(self) -> slice:
        """The positions of all windows."""
        return slice(self.start, self.start + self.count * self.length)


def windows_of(x: Tensor, rows: Group, columns: Group) -> Tensor:
    """Divide the extent of two groups, (B, H, W, C), into windows, (B * windows, positions of a window, C)."""
    x = x.unflatten(2, (columns.count, columns.length)).unflatten(1, (rows.count, rows.length))
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def window_groups(side: int, window: int) -> list[Group]:
    """All windows along one side of the map, in groups that do not overlap.

    Example:
        >>> [tuple(group) for group in window_groups(15, 4)]  # windows start at 0, 2, 4, ..., 12; the last one is cut
        [(0, 0, 3, 4), (0, 12, 1, 3), (1, 2, 3, 4)]
    """
    half = window // 2
    last = max(0, -(-(side - window) // half))  # the first window that reaches the end
    groups = []
    for parity in (0, 1):
        starts = range(parity * half, last * half + 1, window)
        whole = sum(start + window <= side for start in starts)
        if whole:
            groups.append(Group(parity, starts[0], whole, window))
        groups += [Group(parity, start, 1, side - start) for start in starts[whole:]]
    return groups


def hat_weights(side: int, window: int) -> Tensor:
    """The weights of windows of both parities at each position of one side, (2, side) float32; each column has sum 1.

    Weights are linear between the middles of neighbouring windows. Beyond the middles of the first and the last window,
    only that window counts.

    Example:
        >>> hat_weights(8, 4).tolist()
        [[1.0, 1.0, 0.75, 0.25, 0.25, 0.75, 1.0, 1.0], [0.0, 0.0, 0.25, 0.75, 0.75, 0.25, 0.0, 0.0]]
    """
    half = window // 2
    last = max(0, -(-(side - window) // half))
    place = ((torch.arange(side) + 0.5) / half - 1).clamp(0, last)  # window k has its middle at place k
    odd = 1 - (place % 2 - 1).abs()
    return torch.stack([1 - odd, odd])


def attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """softmax(query key^T) values: from scaled query and key, (N, L, C/2), and values, (N, L, C), to (N, L, C)."""
    if not values.is_cpu:
        return fused_attention(query, key, values)
    # On a CPU two products of matrices are faster than the fused kernel.
    length = values.shape[1]
    context = torch.empty_like(values, memory_format=torch.contiguous_format)
    windows, rows = SCORE_VALUES // length**2, max(1, SCORE_VALUES // length)  # at once
    if windows:  # several small windows at once
        for q, k, v, out in zip(*(m.split(windows) for m in (query, key, values, context)), strict=True):
            torch.matmul(torch.softmax(q @ k.transpose(1, 2), dim=-1), v, out=out)
        return context
    for q, k, v, out in zip(query, key, values, context, strict=True):
        k, v = k.contiguous(), v.T.contiguous()
        for part, result in zip(q.split(rows), out.split(rows), strict=True):
            result.copy_(product(torch.softmax(product(part, k), dim=-1), v))
    return context


def fused_attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """`attention` by PyTorch's fused kernels.

    They need queries and keys as wide as the values. Zeros are appended, which change no product.
    """
    wider = (0, values.shape[-1] - query.shape[-1])
    query, key = F.pad(query, wider).unsqueeze(1), F.pad(key, wider).unsqueeze(1)
    return F.scaled_dot_product_attention(query, key, values.unsqueeze(1), scale=1.0).squeeze(1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product a b^T: from (N, K) and (M, K) to (N, M).

    In float32 it is computed as a 1x1 convolution: on processors not made by Intel, oneDNN's convolution is twice as
    fast as MKL's product (the measurement is not kept).
    """
    if a.dtype != torch.float32:
        return F.linear(a, b)
    # With one thread, PyTorch uses oneDNN for 1x1 convolutions only from 16 images on.
    images = 16 if len(a) % 16 == 0 else 1
    a = a.reshape(images, -1, 1, a.shape[1]).permute(0, 3, 1, 2)  # (16, K, N / 16, 1)
    return F.conv2d(a, b[:, :, None, None]).permute(0, 2, 3, 1).reshape(-1, len(b))

"""The self-attention of `FastNet`: over the whole map or in overlapping windows, in pieces that fit in memory."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SCORE_VALUES = 2**22  # attention scores that are held at once on a CPU


def attended(x: Tensor, query_key: Tensor, window: int | None) -> Tensor:
    """Self-attention added to its input; (B, C, H, W), and queries and keys together in as many channels."""
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

    Windows of `window` positions start at every multiple of half their side in both directions, the last ones
    where they reach the end of the map, and end with the map. Up to four cover a position; their results are
    blended with `hat_weights`.

    Args:
        query, key: (B, H, W, C/2), contiguous along the channels, scaled.
        values: (B, H, W, C).

    Returns:
        (B, H, W, C), new.
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
    """Windows along one side of the map: `count` of `length` positions, one after the other from `start`.

    `parity` is 0 for windows that start at even multiples of half the window, 1 for the others.
    """

    parity: int
    start: int
    count: int
    length: int

    @property
    def extent(self) -> slice:
        return slice(self.start, self.start + self.count * self.length)


def windows_of(x: Tensor, rows: Group, columns: Group) -> Tensor:
    """The extent of both groups, (B, H, W, C) -> (B * windows, positions of a window, C)."""
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
    """The weight of the windows of either parity at each position of one side, (2, side) float32; columns sum to 1.

    Linear between the middles of neighbouring windows; the first and the last window count alone beyond their middles.

    Example:
        >>> hat_weights(8, 4).tolist()
        [[1.0, 1.0, 0.75, 0.25, 0.25, 0.75, 1.0, 1.0], [0.0, 0.0, 0.25, 0.75, 0.75, 0.25, 0.0, 0.0]]
    """
    half = window // 2
    last = max(0, -(-(side - window) // half))
    place = ((torch.arange(side) + 0.5) / half - 1).clamp(0, last)  # the middle of window k is at place k
    odd = 1 - (place % 2 - 1).abs()
    return torch.stack([1 - odd, odd])


def attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """softmax(query key^T) values; (N, L, C/2) twice, scaled, and (N, L, C) -> (N, L, C)."""
    if not values.is_cpu:
        return fused_attention(query, key, values)
    # On a CPU two products of matrices are faster than the fused kernel.
    length = values.shape[1]
    context = torch.empty_like(values, memory_format=torch.contiguous_format)
    together, rows = SCORE_VALUES // length**2, max(1, SCORE_VALUES // length)
    if together:  # many small windows
        for q, k, v, out in zip(*(m.split(together) for m in (query, key, values, context)), strict=True):
            torch.matmul(torch.softmax(q @ k.transpose(1, 2), dim=-1), v, out=out)
        return context
    for q, k, v, out in zip(query, key, values, context, strict=True):
        k, v = k.contiguous(), v.T.contiguous()
        for some, result in zip(q.split(rows), out.split(rows), strict=True):
            result.copy_(product(torch.softmax(product(some, k), dim=-1), v))
    return context


def fused_attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """`attention` in PyTorch's fused kernels, which want queries and keys as wide as values: zeros change no product."""
    wider = (0, values.shape[-1] - query.shape[-1])
    query, key = F.pad(query, wider).unsqueeze(1), F.pad(key, wider).unsqueeze(1)
    return F.scaled_dot_product_attention(query, key, values.unsqueeze(1), scale=1.0).squeeze(1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T; (N, K) and (M, K) -> (N, M).

    float32 goes through a 1x1 convolution: oneDNN's is twice as fast as MKL's product on processors not by Intel.
    """
    if a.dtype != torch.float32:
        return F.linear(a, b)
    images = 16 if len(a) % 16 == 0 else 1  # on one thread PyTorch leaves 1x1 convolutions to oneDNN from 16 images on
    a = a.reshape(images, -1, 1, a.shape[1]).permute(0, 3, 1, 2)  # (16, K, N / 16, 1)
    return F.conv2d(a, b[:, :, None, None]).permute(0, 2, 3, 1).reshape(-1, len(b))

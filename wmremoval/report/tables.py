"""Text tables for the command line and the notebook."""

from typing import Any


def format_table(rows: list[dict]) -> str:
    """An aligned text table with the keys of the first row as headings; floats have three decimals, None is a dash."""
    cells = [list(rows[0])] + [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def score_table(summary: dict[str, Any]) -> str:
    """The test scores of a network and of the unrestored input, for all photographs and by the area of the mark.

    Args:
        summary: the scores that `evaluate` returns.
    """
    groups = {"all": summary} | summary["by_mask_area"]
    names = ("psnr", "ssim", "rmse", "masked_psnr", "masked_rmse", "mask_iou", "mask_f1")
    rows = []
    for label, scores in groups.items():
        for who, prefix in (("restored", ""), ("do nothing", "input_")):
            means = {name: scores.get(prefix + name, {}).get("mean") for name in names}
            rows.append({"mark": label, "images": scores["images"], "": who, **means})
    return format_table(rows)

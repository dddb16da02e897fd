"""A map of two rules against each other: how well trials did on average, as coloured cells.

In: values of two rules, the scores of trials. Out: SVG text. Never: a colour for a cell without a trial.
"""

from collections.abc import Mapping, Sequence
from html import escape

from services.backtest.report.draw import Frame, element, picture, text

LEFT, TOP, CELL_HEIGHT, BOTTOM = 64, 26, 26, 22
LABELS_MAX = 16
Cell = tuple[str, str]


def heat_map(
    names: tuple[str, str], columns: Sequence[str], rows: Sequence[str], scores: Mapping[Cell, Sequence[float]]
) -> str:
    """Return a map of `(column, row) -> scores`: the mean as colour and text, the number of trials as a tooltip."""
    means = {cell: sum(values) / len(values) for cell, values in scores.items() if values}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    height = TOP + CELL_HEIGHT * len(rows) + BOTTOM
    frame = Frame(0, 1, 0.0, 1.0, width=560, height=height)
    width = (frame.width - LEFT) / len(columns)
    parts = [text((LEFT, 12), f"{names[0]} across, {names[1]} down")]
    for index, row in enumerate(rows):
        y = TOP + CELL_HEIGHT * index
        parts.append(text((LEFT - 8, y + 17), row, anchor="end"))
        for column, value in enumerate(columns):
            x = LEFT + width * column
            mean = means.get((value, row))
            if mean is None:
                parts.append(element("rect", class_="cell", x=x, y=y, width=width - 2, height=CELL_HEIGHT - 2))
                continue
            found = scores[value, row]
            where = f"{names[0]} {value}, {names[1]} {row}"
            hint = f"{where}: {mean:.3f} on average of {len(found)}, best {max(found):.3f}"
            cell = element(
                "rect", class_=f"cell {cell_class(mean, low, high)}", x=x, y=y, width=width - 2, height=CELL_HEIGHT - 2
            )
            label = text((x + width / 2 - 1, y + 17), f"{mean:.2f}", "value", "middle") if width > 30 else ""
            parts.append(element("g", element("title", escape(hint)) + cell + label))
    step = -(-len(columns) // LABELS_MAX)
    for column in range(0, len(columns), step):
        x = LEFT + width * column + width / 2 - 1
        parts.append(text((x, height - 7), columns[column], anchor="middle"))
    return picture(frame, f"Mean score by {names[0]} and {names[1]}", "".join(parts), "map")


def cell_class(mean: float, low: float, high: float) -> str:
    """Return the colour class of a mean between the lowest and the highest: `heat0` to `heat9`."""
    return "heat5" if high <= low else f"heat{min(9, int((mean - low) / (high - low) * 10))}"

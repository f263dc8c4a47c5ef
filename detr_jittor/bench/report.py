"""What a benchmark says: bench.json, the table in the terminal and for a README, and one self-contained page."""

from detr_jittor.bench.numbers import Row
from detr_jittor.report.page import Table, heading, page, paragraph

READING = (
    "Both twins run in fresh processes with the same pictures and weights, asked in turn after a warm-up; a figure is "
    "the median. The ratio is the rival's figure divided by Jittor's, so above 1 Jittor is ahead; it is the median of "
    "the ratios pair by pair, with the least and the most. Inference takes NumPy pictures and gives NumPy logits and "
    "boxes. The share of the limit is the arithmetic of DETR, counted from its shapes, in a second, divided by that of "
    "a 2048³ float32 product of oneDNN, measured in the same rounds.")
HEADER = ["what", "Jittor", "rival", "its figure", "ratio", "asked for", "share of the limit", ""]


def to_json(rows: list[Row], conditions: dict) -> dict:
    return {**conditions, "rows": [row.to_json() for row in rows]}


def table(rows: list[Row]) -> Table:
    return Table(HEADER, [line(row) for row in rows])


def line(row: Row) -> list[str]:
    ours = figure(row.jittor, row.unit) + (f" ({row.ours.removeprefix('Jittor ')})" if row.ours != "Jittor" else "")
    return [row.name, ours, row.rival, figure(row.pytorch, row.unit), ratio(row), asked(row), shares(row), row.note]


def figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "s" and value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def ratio(row: Row) -> str:
    if row.ratio is None:
        return "–"
    least, most = min(row.ratios), max(row.ratios)
    return f"{row.ratio:.2f}" + (f" ({least:.2f}–{most:.2f})" if len(row.ratios) > 1 else "")


def asked(row: Row) -> str:
    said = {"ratio": "≥ {:g}", "limit_fraction": "share ≥ {:g}", "jittor": f"≤ {{:g}} {row.unit}"}
    wanted = ", ".join(said[name].format(value) for name, value in row.must.items())
    return wanted + {True: " ✓", False: " ✗", None: ""}[row.met]


def shares(row: Row) -> str:
    ours, theirs = row.fraction(row.jittor), row.fraction(row.pytorch)
    return "" if ours is None else f"{ours:.2f} and {theirs:.2f}"


def about(conditions: dict) -> list[str]:
    """Where and with what it was measured, a sentence each."""
    machine, limit = conditions["machine"], conditions["limit_gflops"]
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    lines = [f"{machine['cpu']}, {machine['instructions']}, {machine['threads']} threads, {machine['system']}. "
             f"{versions}.",
             f"Command: {conditions['command']}, {conditions['seconds']:.0f} s."]
    if limit:
        lines.append(f"Limit: {limit['median']:.0f} GFLOP/s ({limit['least']:.0f}–{limit['most']:.0f}).")
    if conditions["differences"]:
        told = ", ".join(f"{name} {value:.1e}" for name, value in conditions["differences"].items())
        lines.append(f"Largest difference of a logit from PyTorch eager's: {told}.")
    if conditions["left_out"]:
        lines.append(f"Left out: {conditions['left_out']}.")
    return lines


def markdown(rows: list[Row], conditions: dict) -> str:
    return "\n\n".join([table(rows).markdown(), *about(conditions), READING]) + "\n"


def to_html(rows: list[Row], conditions: dict) -> str:
    return page("Speed of the Jittor twin", [*map(paragraph, about(conditions)), heading("Figures"),
                                              table(rows).html(), paragraph(READING, "note")])

"""Tables of a result: the errors and the other measures of every method, as rows of text."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

TITLES = {
    "mean_shape": "mean shape",
    "zero_shot": "ZeroShot",
    "mallis_d": "Mallis(D)",
    "d_uld": "D-ULD",
    "d_uld_pose_proxy": "D-ULD + pose proxy",
    "full_vae": "TSC with full VAE",
    "control": "D-ULD that goes on",
    "d_uld_pp": "D-ULD++",
}
MEASURES = {
    "detection_rate": "detection rate",
    "consistency_px": "consistency, px of 128",
    "silhouette": "silhouette",
    "calinski_harabasz": "Calinski-Harabasz",
    "pose_purity": "pose purity",
    "pose_nmi": "pose NMI",
}
"""Those that need no annotated points."""


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    cells: list[Cell]


def title_of(method: str) -> str:
    """A method as tables name it; a peer has the name that it gave itself."""
    return TITLES.get(method, method)


def protocols(result: dict[str, Any]) -> list[str]:
    """Names of the protocols that tables and curves show; result.json may have more."""
    shown: list[str] = result["shown"]
    return shown


def measures(result: dict[str, Any]) -> dict[str, str]:
    """Titles of the measures that need no annotated points and that some method has."""
    methods = result["methods"].values()
    return {name: title for name, title in MEASURES.items() if any(method.get(name) is not None for method in methods)}


def measured(result: dict[str, Any]) -> list[Row]:
    """These measures of every method."""
    return [
        Row(title_of(name), [Cell(_number(method.get(measure))) for measure in measures(result)])
        for name, method in result["methods"].items()
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def rows(result: dict[str, Any]) -> list[Row]:
    """The table of a result: the mean shape, then every method; the best number of each column is marked."""
    columns = [(protocol, direction) for protocol in protocols(result) for direction in ("forward", "backward")]
    best = {
        (protocol, direction): min(method["nme"][protocol][direction] for method in result["methods"].values())
        for protocol, direction in columns
    }
    table = []
    if columns:
        shape = result["baselines"]["mean_shape"]
        cells = [Cell(f"{shape[protocol]:.2f}" if direction == "forward" else "") for protocol, direction in columns]
        table.append(Row(TITLES["mean_shape"], [*cells, Cell("")]))
    for name, method in result["methods"].items():
        values = {column: method["nme"][column[0]][column[1]] for column in columns}
        cells = [Cell(f"{value:.2f}", value == best[column]) for column, value in values.items()]
        table.append(Row(title_of(name), [*cells, Cell(f"{100 * method['detection_rate']:.1f} %")]))
    return table


def compared(result: dict[str, Any]) -> list[Row]:
    """Differences from other methods, by protocol and direction as in `rows`: mean and interval."""
    found = []
    for name, method in result["methods"].items():
        for other, pairs in method.get("against", {}).items():
            cells = [Cell(_interval(pairs[p].get(d))) for p in protocols(result) for d in ("forward", "backward")]
            found.append(Row(f"{title_of(name)} minus {title_of(other)}", cells))
    return found


def _interval(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return ""
    return "{mean:+.2f} ({low:+.2f} to {high:+.2f})".format(**difference)


def print_summary(result: dict[str, Any], report: str | None) -> None:
    """Print the table of a result, and where the report is; without annotations that of the other measures."""
    table = Table(title="NME %, lower is better" if protocols(result) else None)
    table.add_column("method")
    headings = [f"{protocol} {direction}" for protocol in protocols(result) for direction in ("forward", "backward")]
    for heading in [*headings, "detection rate"] if headings else measures(result).values():
        table.add_column(heading, justify="right")
    for row in rows(result) if headings else measured(result):
        table.add_row(row.title, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in row.cells))
    console = Console()
    console.print(table)
    if missing := result["without_normaliser"]:
        console.print(f"not measured, since no test image has the normaliser: {', '.join(missing)}")
    if report:
        console.print(f"report: {report}", soft_wrap=True)

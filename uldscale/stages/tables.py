"""Tables of a result: the errors and the other measures of every method, as rows of text."""

from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from uldscale.evaluation.protocols import Normaliser

NORMALISERS: dict[Normaliser, str] = {
    "interocular_36_45": "the distance between the outer eye corners",
    "interocular_41_46": "the distance between the lower eye lids",
    "interocular_60_72": "the distance between the outer eye corners",
    "eye_centres": "the distance between the eyes",
    "box": "the square root of the area of the box around the annotated points",
}
TITLES = {
    "bootstrap": "bootstrap",
    "mean_shape": "mean shape",
    "zero_shot": "ZeroShot",
    "mallis_d": "Mallis(D)",
    "d_uld": "D-ULD",
    "d_uld_pose_proxy": "D-ULD + pose proxy",
    "full_vae": "TSC with full VAE",
    "control": "D-ULD that goes on",
    "d_uld_pp": "D-ULD++",
}


@dataclass(frozen=True)
class Measure:
    """One that needs no annotated points: how it is headed and written."""

    title: str
    better: Literal["↑", "↓"]
    form: str

    @property
    def heading(self) -> str:
        """With an arrow towards what is better."""
        return f"{self.title}\N{NO-BREAK SPACE}{self.better}"


MEASURES = {
    "detection_rate": Measure("detection rate", "↑", "{:.1%}"),
    "consistency_px": Measure("consistency, px of 128", "↓", "{:.2f}"),
    "silhouette": Measure("silhouette", "↑", "{:.2f}"),
    "calinski_harabasz": Measure("Calinski-Harabasz", "↑", "{:,.0f}"),
    "clusters_silhouette": Measure("silhouette, Q x K", "↑", "{:.2f}"),
    "clusters_calinski_harabasz": Measure("Calinski-Harabasz, Q x K", "↑", "{:,.0f}"),
    "visibility_auc": Measure("visibility, area under ROC", "↑", "{:.2f}"),
    "pose_purity": Measure("pose purity", "↑", "{:.2f}"),
    "pose_nmi": Measure("pose NMI", "↑", "{:.2f}"),
}


COLUMNS = 4
"""Of these measures, the first ones, on a terminal."""


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
    """Headings of the measures that need no annotated points and that some method has."""
    methods = result["methods"].values()
    there = (name for name in MEASURES if any(method.get(name) is not None for method in methods))
    return {name: MEASURES[name].heading for name in there}


def measured(result: dict[str, Any]) -> list[Row]:
    """These measures of every method."""
    return [
        Row(title_of(name), [Cell(_written(measure, method.get(measure))) for measure in measures(result)])
        for name, method in result["methods"].items()
    ]


def _written(measure: str, value: float | None) -> str:
    return "" if value is None else MEASURES[measure].form.format(value).replace("%", " %")


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


@dataclass(frozen=True)
class ProtocolTable:
    """Forward and backward errors of all methods under one protocol."""

    name: str
    of: str
    """What errors are in percent of."""
    images: str
    rows: list[Row]
    compared: list[Row]


def by_protocol(result: dict[str, Any]) -> list[ProtocolTable]:
    """One for each protocol that is shown."""
    found = []
    for number, name in enumerate(protocols(result)):
        own = slice(2 * number, 2 * number + 2)
        errors = next(method["nme"][name] for method in result["methods"].values())
        images = f"fitted on {errors['num_train']:,} training images, measured on {errors['num_test']:,} test images"
        parts = ([Row(row.title, row.cells[own]) for row in table] for table in (rows(result), compared(result)))
        found.append(ProtocolTable(name, NORMALISERS[errors["normaliser"]], images, *parts))
    return found


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
    errors = [f"{protocol} {direction} ↓" for protocol in protocols(result) for direction in ("forward", "backward")]
    headings = [*errors, MEASURES["detection_rate"].heading] if errors else [*measures(result).values()][:COLUMNS]
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows(result) if errors else measured(result):
        cells = row.cells[: len(headings)]
        table.add_row(row.title, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in cells))
    console = Console()
    console.print(table)
    if missing := result["without_normaliser"]:
        console.print(f"not measured, since no test image has the normaliser: {', '.join(missing)}")
    if found := len(result["warnings"]):
        told = f"; they are in {report}" if report else ""
        console.print(f"{found} {'warning' if found == 1 else 'warnings'}{told}", soft_wrap=True)
    if report:
        console.print(f"report: {report}", soft_wrap=True)

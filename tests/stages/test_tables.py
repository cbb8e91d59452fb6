"""The table that a run ends with."""

from typing import Any

import pytest

from uldscale.stages.tables import print_summary


def result(**more: Any) -> dict[str, Any]:
    measures = {"detection_rate": 0.987, "consistency_px": 1.234, "silhouette": 0.5, "calinski_harabasz": 210.4}
    return {
        "methods": {"d_uld_pp": measures | more},
        "baselines": {},
        "shown": [],
        "without_normaliser": [],
        "warnings": [{}],
    }


def test_errors_where_there_are_annotations(capsys: pytest.CaptureFixture[str]) -> None:
    errors = {"68pt-300": {"forward": 4.567, "backward": 3.456}}
    annotated = result(nme=errors) | {"baselines": {"mean_shape": {"68pt-300": 21.3}}, "shown": ["68pt-300"]}
    print_summary(annotated | {"without_normaliser": ["5pt-all"]}, "runs/x/report.html")
    shown = capsys.readouterr().out
    for words in ("mean shape", "21.30", "4.57", "3.46", "98.7 %", "not measured", "5pt-all", "runs/x/report.html"):
        assert words in shown


def test_the_other_measures_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(result(clusters_silhouette=-0.5, pose_purity=0.8), None)
    shown = capsys.readouterr().out
    for words in ("D-ULD++", "98.7 %", "1.23", "0.50", "210", "↑", "↓", "1 warning"):
        assert words in shown
    assert "NME" not in shown
    assert "Q x K" not in shown, "a terminal has room for four"

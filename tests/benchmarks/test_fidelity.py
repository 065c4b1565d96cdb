import json
from pathlib import Path

import fidelity
from rich.console import Console

from ciess.data import synthetic


def test_a_study_in_a_table_by_hand() -> None:
    study = {
        "truncate": {"0": (0.1, 1.0), "1": (0.3, 1.0), "2": (0.2, 1.0), "3": (0.0, 5.0)},
        fidelity.FINISH: {"0": (0.36, 4.0), "1": (0.38, 4.0), "2": (0.40, 4.0), "3": (0.30, 4.0)},
        fidelity.SHORT: {},
        fidelity.RETRAINED: {"0": (0.3, 9.0), "1": (0.2, 9.0), "2": (0.1, 9.0)},
    }
    lines = fidelity.report(fidelity.FidelityStudy(Path("data"), "mine"), {"mf": study}).splitlines()
    # Ranks 1, 3, 2, 0 and 1, 2, 3, 0 differ by 1 twice: 1 − 6 · 2 / (4 · 15) = 0.8. Ranks 0, 2, 1 and 2, 1, 0 differ by
    # 2, 1 and 1: 1 − 6 · 6 / (3 · 8) = −0.5. Plan 1, which a cut likes best, is 5 % behind plan 2. Retraining ranks the
    # other way round than a finish.
    assert "| mf | truncate | 4 | 1.00 | 0.80 | -0.50 | 5.0% |" in lines
    assert "| mf | retrained | 3 | 9.00 | -1.00 | 1.00 | 10.0% |" in lines
    assert not any(fidelity.SHORT in line for line in lines)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, path = tmp_path / "data.csv", tmp_path / "als.json"
    matrix = synthetic(users=90, items=60, mean_count=12).interactions.matrix
    data.write_text("\n".join(["user,item", *(f"{user},{item}" for user, item in zip(*matrix.nonzero(), strict=True))]))
    settings = fidelity.FidelityStudy(data, "mine", plans=4, retrained=2)
    fidelity.study(settings, "als", path, Console(quiet=True))
    found = json.loads(path.read_text())
    assert {label: list(plans) for label, plans in found.items()} == {
        label: ["0", "2"] if label in (fidelity.SHORT, fidelity.RETRAINED) else ["0", "1", "2", "3"] for label in found
    }
    kept = found["finetune"].pop("1")[0]
    path.write_text(json.dumps(found))
    fidelity.study(settings, "als", path, Console(quiet=True))
    again = json.loads(path.read_text())
    assert again["finetune"].pop("1")[0] == kept
    assert again == found

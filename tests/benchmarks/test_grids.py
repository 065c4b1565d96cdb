from pathlib import Path

import grids
import pytest

import ciess
from ciess.data import split_random, synthetic


def test_a_grid_multiplies_the_tuned_settings_of_any_backbone() -> None:
    made = [*grids.grid(ciess.ALS(alpha=9, regularisation=0.9))]
    assert len(made) == 30
    assert made[0] == {"alpha": 1, "regularisation": 0.1}
    assert made[-1] == {"alpha": 81, "regularisation": 24.3}
    assert made[1] == {"alpha": 1, "regularisation": 0.3}
    assert {*next(grids.grid(ciess.LightGCN()))} == {"l2", "lr"}


def test_the_best_of_a_grid_on_validation_stands_beside_what_is_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_random(synthetic(users=120, items=80, mean_count=14).interactions, seed=0)
    monkeypatch.setattr(grids, "FACTORS", ((1e-9, 1), (1,)))
    config = ciess.ALS(dim=8, training=ciess.Training(steps=2, eval_every=1))
    found = grids.studied(split, config, 0, tmp_path)
    low, usual = (trial["valid"] for trial in found["grid"])
    assert low != usual
    assert found["best"]["valid"] == max(low, usual)
    assert found["best"]["settings"]["alpha"] == (15 if usual > low else 1.5e-8)
    assert 0 < found["best"]["test"] != found["best"]["valid"]
    assert found["tuned"]["settings"].keys() == found["best"]["settings"].keys()
    monkeypatch.setattr(grids, "Bench", None)
    assert grids.studied(split, config, 0, tmp_path) == found, "what was kept is read"
    line = grids.report([{"set": "mine", "backbone": "als", "seed": 0, "commit": "abc", **found}]).splitlines()[-1]
    assert line.startswith("| mine | als | ")
    assert f"| {max(low, usual):.4f} / {found['best']['test']:.4f} | alpha" in line

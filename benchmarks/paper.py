"""CIESS as published, end to end: `Ciess.paper()` with LightGCN, beside the paper's Table 1.

    python benchmarks/paper.py DATA/ml-1m-complete/interactions.parquet --name ml-1m-complete --episodes 3 --finalists 1

The paper takes 30 episodes of 10 steps and 3 finalists. Each step trains a new model for 5 epochs, and each finalist is
trained from scratch until validation stops it. The time that all episodes would take stands beside what was run.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch

import ciess

BUDGETS = ("20%", "10%", "5%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--name", required=True, help="folder of benchmarks/results")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--finalists", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    published = ciess.Ciess.paper()
    method = dataclasses.replace(published, episodes=given.episodes, finalists=given.finalists)
    outcome = ciess.search(
        ciess.read(given.data),
        backbone=ciess.LightGCN(),
        budgets=BUDGETS,
        method=method,
        refit=False,
        seed=given.seed,
        progress=ciess.LoggingProgress(),
    )
    search = outcome.seconds["search"]
    folder = Path(__file__).parent / "results" / given.name
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "rows": [dataclasses.asdict(row) for row in outcome.rows],
        "plans": [row for row in outcome.trace if row["kind"] == "explore"],
        "settings": outcome.settings,
        "seconds": outcome.seconds,
        "seconds of all 30 episodes": search * published.episodes / given.episodes,
    }
    (folder / f"paper-{given.seed}.json").write_text(json.dumps(result, indent=1, default=str) + "\n")
    for row in outcome.rows:
        print(
            f"{row.method:12} {row.budget:4} {row.metrics['recall@20']:.4f} {row.metrics['ndcg@20']:.4f} {row.found_by}"
        )


if __name__ == "__main__":
    main()

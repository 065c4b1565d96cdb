"""The report of a search."""

from collections.abc import Iterator

import numpy as np

from ciess.data.describe import like_groups
from ciess.report import figures
from ciess.report.figures import Line
from ciess.report.forms import in_bytes, metric, percent, points, tenths, times, whole
from ciess.report.measures import GROUPS, Share, kept_by_group, sizes_by_popularity
from ciess.report.palette import marker, method_roles, step_roles
from ciess.report.parts import Bar, Card, Column, Figure, Report, Section, Table
from ciess.report.tables import TAIL, outcome_table, rare_items
from ciess.report.wording import again, facts, label, listed, time_sections, tuning_sections
from ciess.results.outcome import EQUAL, FULL, KEPT, OutcomeData, Row
from ciess.tables.budget import Budget

_KINDS = {"popularity": "popularity rule", "explore": "policy, exploring", "ciess": "policy"}
_FIDELITIES = {
    "Truncate": "the full model cut to it",
    "FineTune": "the full model cut to it, after a few steps of distillation",
    "Scratch": "a model trained anew",
}


def searched(outcome: OutcomeData) -> Report:
    """What a search found, for people."""
    return _Searched(outcome).report()


def summary(outcome: OutcomeData) -> Report:
    """The answers and the result table, without figures."""
    return _Searched(outcome).summary()


class _Searched:
    """An outcome, and how its methods and budgets are drawn."""

    def __init__(self, outcome: OutcomeData) -> None:
        self.outcome, self.settings = outcome, outcome.settings
        self.full, self.table = outcome.row(FULL), outcome_table(outcome)
        methods = [method for method in dict.fromkeys(row.method for row in outcome.rows) if method != FULL]
        self.lines = {
            method: Line(label(method), role, marker(number))
            for number, (method, role) in enumerate(method_roles(methods, KEPT).items())
            if method in methods
        }
        self.budgets = list(outcome.plans)
        steps = [(role, marker(number)) for number, role in enumerate(step_roles(len(self.budgets)))]
        self.steps = dict(zip(self.budgets, steps, strict=True))

    def report(self) -> Report:
        tuning = tuning_sections({"Tuned": self.settings["tuning"]})
        sections = [self._results(), self._memory(), self._payers(), *tuning, *self._search()]
        sections += time_sections(self.outcome.seconds)
        sections.append(again(self.settings, "models"))
        return self._page(sections)

    def summary(self) -> Report:
        return self._page([Section("results", "Results", tables=[self._table()])])

    def _page(self, sections: list[Section]) -> Report:
        about = facts(self.settings, self.outcome.shown, f"seed {self.settings['seed']}", self.outcome.cautions)
        return Report(self._title(), about, [self._card(budget) for budget in self.budgets], sections)

    def _title(self) -> str:
        smallest = min((self.outcome.row(KEPT, str(budget)) for budget in self.budgets), key=lambda r: r.table_bytes)
        memory = f"{100 * smallest.table_bytes / self.full.table_bytes:.2g}%"
        return f"{memory} of the memory keeps {percent(smallest.kept)} of the quality"

    def _card(self, budget: Budget) -> Card:
        row = self.outcome.row(KEPT, str(budget))
        compared = [row, self.outcome.row(EQUAL, str(budget)), self.full]
        longest = max(each.kept for each in compared)
        smaller = times(self.full.table_bytes / row.table_bytes)
        return Card(
            heading=f"Budget {budget}",
            value=percent(row.kept),
            label="of the full model's quality",
            bars=[
                Bar(label(each.method), percent(each.kept), each.kept / longest, self._role(each.method))
                for each in compared
            ],
            notes=[
                f"{smaller} smaller: {in_bytes(row.table_bytes)} instead of {in_bytes(self.full.table_bytes)}.",
                self._verdict(row),
            ],
        )

    def _verdict(self, row: Row) -> str:
        if row.found_by == EQUAL:
            return (
                "No plan was ahead of equal sizes on validation by more than the standard error: "
                "this model has equal sizes."
            )
        gain, sure = self._gain(row), self.outcome.gains[row.method, row.budget].verdict != 0
        told = f"{points(gain.value)} percentage points (95% interval {points(gain.low)} to {points(gain.high)})"
        verdict = f"Against equal sizes: {told}." if sure else f"No clear difference from equal sizes: {told}."
        return f"{verdict} Sizes found by {label(row.found_by)}."

    def _results(self) -> Section:
        drawn = {method: line for method, line in self.lines.items() if not self._is_kept(method)}
        kept = {
            line: [(row.table_bytes, self._share(row)) for row in self.outcome.rows if row.method == method]
            for method, line in drawn.items()
        }
        gains = {
            line: [(row.budget, self._gain(row)) for row in self.outcome.rows if row.method == method]
            for method, line in drawn.items()
            if method != EQUAL
        }
        return Section(
            "results",
            "How much is saved, how much is kept",
            [
                "Quality is the mean of Recall and NDCG at 5, 10 and 20, and kept is its share of the full model's. "
                "Bytes are those of both tables as stored, index and scales included.",
                self._learned(),
            ],
            [
                figures.frontier(kept, self.full.table_bytes, "95% intervals over users"),
                *([figures.gains(gains, "budget", "percentage points of quality kept")] if gains else []),
            ],
            [self._table()],
        )

    def _learned(self) -> str:
        """What the models have learned and leave out."""
        learned = self.settings["learned"]
        if not learned:
            told = "The tables were trained elsewhere; models are as they were measured."
        elif self.outcome.shown == "test" and len(learned) > 2:
            told = "The table measures models that learned train and validation; the saved ones learned test, too."
        else:
            told = f"The saved models learned {listed(learned)}."
        return f"{told} They recommend nobody what the data say they have."

    def _table(self) -> Table:
        return self.table.showing(
            f"Measured on {self.outcome.shown}. Sizes are mean dimensions. The row named search is what was kept; the "
            "difference from equal sizes is in percentage points of quality kept, and p that of a paired t-test over "
            "users, corrected after Holm for all lines.",
            *("Model", "Found by", "Budget", "Recall@20", "NDCG@20", "Kept", "Vs equal sizes", "p", "Bytes", "Smaller"),
            *("Stored", "User size", "Item size", "Training", "Seconds"),
        )

    def _memory(self) -> Section:
        outcome = self.outcome
        drawn, rows = [], []
        for side, popularity in zip(("users", "items"), outcome.popularity, strict=True):
            of_budget = {
                budget: plan.user_sizes if side == "users" else plan.item_sizes
                for budget, plan in outcome.plans.items()
            }
            lines = {
                Line(str(budget), *self.steps[budget]): sizes_by_popularity(sizes, popularity)
                for budget, sizes in of_budget.items()
            }
            drawn.append(figures.sizes(side, lines, next(iter(outcome.plans.values())).dim))
            for budget, sizes in of_budget.items():
                told = (sizes.min(), np.median(sizes), sizes.mean(), sizes.max())
                share = sizes.sum() / outcome.plans[budget].numbers
                rows.append((str(budget), side, *map(float, told), float(share)))
        columns = [
            Column("Budget"),
            Column("Side"),
            Column("Smallest", whole),
            Column("Median", tenths),
            Column("Mean", tenths),
            Column("Largest", whole),
            Column("Share of all parameters", percent),
        ]
        text = "A size is how many dimensions a user or an item keeps of its full row."
        table = Table("Sizes of the models that were kept, in dimensions.", columns, rows)
        return Section("memory", "Where the memory went", [text], drawn, [table, self._files()])

    def _files(self) -> Table:
        rows = []
        for budget, model in self.outcome.models.items():
            ids = sum(array.nbytes for index in (model.user_index, model.item_index) for array in index.arrays.values())
            seen = sum(array.nbytes for array in model.seen.arrays.values())
            parts = (model.table_bytes, model.network_bytes, ids, seen)
            rows.append((str(budget), *parts, sum(parts)))
        headings = ("Both tables", "Network", "Ids", "Interactions", "All")
        return Table(
            "Bytes of a saved model. Budgets limit the tables; interactions tell what a user has already, and are the "
            "graph of graph backbones.",
            [Column("Budget"), *(Column(heading, in_bytes) for heading in headings)],
            rows,
        )

    def _payers(self) -> Section:
        evaluations, (users, items) = self.outcome.evaluations, self.outcome.popularity
        full = evaluations[FULL, ""]
        drawn: list[Figure] = []
        tables = [rare_items(self.table, self.outcome.shown)]
        for side, part, popular in (
            ("users", "quality", users[full.users.numpy()]),
            ("items", "item_credit", items),
        ):
            quality = {key: getattr(each, part).double().numpy() for key, each in evaluations.items()}
            whole_quality = quality[FULL, ""]
            group = like_groups(popular, GROUPS)
            kept = {
                line: kept_by_group(quality[method, budget], whole_quality, group)
                for line, method, budget in self._payer_lines()
            }
            drawn.append(figures.by_decile(side, kept))
            earned = np.bincount(group, whole_quality, GROUPS) / whole_quality.sum()
            columns = [
                Column(f"Tenth of the {side}", whole),
                Column("Median interactions", whole),
                Column("Share of the full model's quality", percent),
                *(Column(line.label, percent) for line in kept),
            ]
            rows = [
                (
                    number + 1,
                    float(np.median(popular[group == number])),
                    float(earned[number]),
                    *(None if np.isnan(shares[number]) else float(shares[number]) for shares in kept.values()),
                )
                for number in np.unique(group)
            ]
            tables.append(Table(f"Quality kept by popularity of {side}, in numbers", columns, rows, folded=True))
        text = (
            "Users are put in order of their interactions, items of theirs, and each tenth is measured by itself. An "
            "item's quality is what its hits add to that of users. Tenths that earn less than 0.1% of the full model's "
            "quality are left out."
        )
        return Section("payers", "Who pays for it", [TAIL, text], drawn, tables)

    def _payer_lines(self) -> Iterator[tuple[Line, str, str]]:
        for budget, (role, shape) in self.steps.items():
            yield Line(f"{label(KEPT)} {budget}", role, shape), KEPT, str(budget)
            if self.outcome.row(KEPT, budget).found_by != EQUAL:
                yield Line(f"equal sizes {budget}", "equal", shape), EQUAL, str(budget)

    def _search(self) -> list[Section]:
        """What was tried; nothing where nothing was told."""
        drawn, rows = [], []
        for budget in self.budgets:
            tried = [each for each in self.outcome.trace if each.get("budget") == str(budget) and "quality" in each]
            if not tried:
                continue
            kinds = [_KINDS.get(str(each.get("kind")), str(each.get("kind", "plan"))) for each in tried]
            quality = [float(each["quality"]) for each in tried]
            drawn.append(figures.trace(f"trace-{budget.folder.removeprefix('budget-')}", str(budget), kinds, quality))
            for kind in dict.fromkeys(kinds):
                found = [value for value, each in zip(quality, kinds, strict=True) if each == kind]
                rows.append((str(budget), kind, len(found), float(np.mean(found)), max(found)))
        if not drawn:
            return []
        columns = [
            Column("Budget"),
            Column("Tried by"),
            Column("Plans", whole),
            Column("Mean quality", metric),
            Column("Best quality", metric),
        ]
        fidelity = _FIDELITIES.get((self.settings["method"].get("fidelity") or {}).get("name", ""), "")
        measured = f" A plan's quality here is that of {fidelity}." if fidelity else ""
        text = (
            f"Every plan of sizes that the search measured on validation.{measured} The best few were then trained to "
            "the end, beside equal sizes, and the best of these on validation was kept."
        )
        table = Table("What was tried, and the best of it.", columns, rows)
        return [Section("search", "What the search tried", [text], drawn, [table])]

    def _share(self, row: Row) -> Share:
        return Share(row.kept, row.kept - 1.96 * row.standard_error, row.kept + 1.96 * row.standard_error)

    def _gain(self, row: Row) -> Share:
        """What a row keeps more than equal sizes, as a share of the full model's quality."""
        gain, full = (
            self.outcome.gains[row.method, row.budget],
            float(self.outcome.evaluations[FULL, ""].quality.mean()),
        )
        return Share(gain.gain / full, gain.low / full, gain.high / full)

    def _is_kept(self, method: str) -> bool:
        """Whether all lines of a method are what was kept: then they are drawn once."""
        rows = [row for row in self.outcome.rows if row.method == method]
        kept = [self.outcome.row(KEPT, row.budget) for row in rows]
        return method not in (EQUAL, KEPT) and all(
            (row.found_by, row.metrics) == (each.found_by, each.metrics) for row, each in zip(rows, kept, strict=True)
        )

    def _role(self, method: str) -> str:
        return self.lines[method].role if method in self.lines else "full"

"""The report of a comparison."""

from collections.abc import Callable
from statistics import mean

from ciess.report import figures
from ciess.report.figures import Line
from ciess.report.forms import percent, points, times, whole
from ciess.report.measures import Share
from ciess.report.palette import marker, method_roles, step_roles
from ciess.report.parts import Bar, Card, Column, Figure, Report, Section, Table
from ciess.report.tables import TAIL, comparison_table, interval, rare_items
from ciess.report.wording import again, facts, label, listed, time_sections, tuning_sections
from ciess.results.comparison import ComparisonData, Spread
from ciess.results.comparison import Line as Result
from ciess.results.outcome import EQUAL, FULL

_COUNTS = ("Models trained", "Plans measured", "Plans finished")
_FEW = 3
"""Methods that a card shows beside equal sizes and the full model, and that a sentence names."""


def compared(comparison: ComparisonData) -> Report:
    """What methods came to side by side, for people."""
    return _Compared(comparison).report()


def overview(comparison: ComparisonData) -> Report:
    """The answers and the table of quality, without figures."""
    return _Compared(comparison).overview()


def in_tables(comparison: ComparisonData) -> Report:
    """All that the same cells always come to, without figures."""
    return _Compared(comparison).in_tables()


class _Compared:
    """A comparison, and how its methods and budgets are drawn."""

    def __init__(self, comparison: ComparisonData) -> None:
        self.comparison, self.settings = comparison, comparison.settings
        self.table = comparison_table(comparison)
        self.results = [line for line in comparison.lines if line.method != FULL]
        self.full = next((line for line in comparison.lines if line.method == FULL), None)
        self.methods = [*dict.fromkeys(line.method for line in self.results)]
        self.budgets = [budget for budget in comparison.budgets if any(line.budget == budget for line in self.results)]
        self.best = {budget: self._ranked(budget)[0].method for budget in self.budgets}
        first = next((name for name in ("ciess", *self.methods) if name in self.methods and name != EQUAL), EQUAL)
        roles = method_roles(self.methods, first)
        self.lines = {
            method: Line(label(method), roles[method], marker(number)) for number, method in enumerate(self.methods)
        }

    def report(self) -> Report:
        tuning = tuning_sections(
            {f"Tuned, seed {cell.seed}": cell.tuning for cell in self.comparison.cells if cell.tuning}
        )
        sections = [self._quality(self._figures()), *self._pairs(), self._payers(), *tuning]
        sections += [self._effort(*_COUNTS, "Seconds"), *self._failures()]
        sections += [*time_sections(self.comparison.seconds), again(self.settings, "tables")]
        return self._page(sections)

    def overview(self) -> Report:
        return self._page([Section("quality", "Quality", tables=[self._table()])])

    def in_tables(self) -> Report:
        sections = [self._quality([]), *self._pairs(), self._payers(), self._effort(*_COUNTS), *self._failures()]
        return self._page(sections)

    def _page(self, sections: list[Section]) -> Report:
        seeds = self.settings["seeds"]
        told = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        about = facts(self.settings, self.comparison.shown, told, self.comparison.cautions)
        return Report(self._title(), about, [self._card(budget) for budget in self.budgets], sections)

    def _title(self) -> str:
        won = {
            method: [budget for budget, best in self.best.items() if best == method]
            for method in dict.fromkeys(self.best.values())
        }
        told = ", ".join(f"{label(method)} at {listed(budgets)}" for method, budgets in won.items())
        return f"Most quality is kept by {told}" if told else "No method came to a result"

    def _card(self, budget: str) -> Card:
        ranked = self._ranked(budget)
        best = ranked[0]
        told = ranked[:_FEW] + [line for line in ranked[_FEW:] if line.method == EQUAL]
        told += [self.full] if self.full else []
        longest = max(line.kept.mean for line in told)
        smaller = f"{times(self.full.table_bytes.mean / best.table_bytes.mean)} smaller. " if self.full else ""
        return Card(
            heading=f"Budget {budget}",
            value=percent(best.kept.mean),
            label=f"of the full model's quality, by {label(best.method)}",
            bars=[
                Bar(label(line.method), percent(line.kept.mean), line.kept.mean / longest, self._role(line.method))
                for line in told
            ],
            notes=[smaller + self._over_equal(budget, best.method), self._verdict(budget, best.method)],
        )

    def _over_equal(self, budget: str, best: str) -> str:
        gain = self.comparison.gain(best, budget)
        if gain is None:
            return ""
        return f"{points(gain.gain)}% over equal sizes (95% interval {interval(gain)})."

    def _verdict(self, budget: str, best: str) -> str:
        beaten = self.comparison.beaten(best, budget)
        others = [line.method for line in self._ranked(budget) if line.method != best]
        left = [label(method) for method in others if method not in beaten]
        if not left:
            return "Significantly better than all others." if others else "There is no other method."
        told = listed(left) if len(left) <= _FEW else f"{len(left)} others"
        if not beaten:
            return f"Not clearly better than {told}."
        return f"Significantly better than {listed([label(method) for method in beaten])}; not clearly than {told}."

    def _quality(self, drawn: list[Figure]) -> Section:
        text = [
            "Every method had the same split, full model, fidelity and finish. Quality is the mean of Recall and NDCG "
            "at 5, 10 and 20, and kept is its share of the full model's. Bytes are those of both tables as stored, "
            "index and scales included.",
            "A gain is significant where a paired t-test over users, each of whose gains is a mean over seeds, leaves "
            "chance less than 5% after Holm's correction for all methods and budgets.",
        ]
        return Section("quality", "Who keeps most in which memory", text, drawn, [self._table(), self._details()])

    def _figures(self) -> list[Figure]:
        if not self.results or self.full is None:
            return []
        kept = {
            line: [
                (round(result.table_bytes.mean), _spread_share(result.kept))
                for result in self.results
                if result.method == method
            ]
            for method, line in self.lines.items()
        }
        whiskers = "standard deviations over seeds" if len(self.settings["seeds"]) > 1 else ""
        drawn = [figures.frontier(kept, round(self.full.table_bytes.mean), whiskers)]
        steps = zip(self.budgets, step_roles(len(self.budgets)), strict=True)
        gains = {
            Line(budget, role, marker(number)): [
                (label(gain.method), Share(gain.gain, gain.low, gain.high))
                for gain in self.comparison.gains
                if gain.budget == budget
            ]
            for number, (budget, role) in enumerate(steps)
        }
        if self.comparison.gains:
            drawn.append(figures.gains(gains, "method", "% of quality"))
        return drawn

    def _table(self) -> Table:
        seeds = "mean ± standard deviation over seeds" if len(self.settings["seeds"]) > 1 else "one seed"
        return self.table.showing(
            f"Measured on {self.comparison.shown}, {seeds}. Gains are over equal sizes, in % of their quality",
            *("Method", "Budget", "Recall@20", "NDCG@20", "Kept", "Gain, %", "95% interval", "p", "Significant"),
            "Bytes",
        )

    def _details(self) -> Table:
        return self.table.showing(
            "What found the size plans; users who fare better, the same and worse than with equal sizes, means over "
            "seeds; mean sizes, in dimensions; what no other line beats with as many bytes or fewer; and whether "
            "training had levelled off in all seeds",
            *("Method", "Budget", "Found by", "Users better", "Same", "Worse", "Stored", "User size", "Item size"),
            *("On the frontier", "Training"),
            folded=True,
        )

    def _pairs(self) -> list[Section]:
        """Who is better than whom; nothing where there is one method."""
        if len(self.methods) < 2:
            return []
        rows = []
        for budget in self.budgets:
            there = [line.method for line in self._ranked(budget)]
            beaten = {method: self.comparison.beaten(method, budget) for method in there}
            for method in there:
                wins = [label(other) for other in beaten[method]]
                losses = [label(other) for other in there if method in beaten[other]]
                ties = len(there) - 1 - len(wins) - len(losses)
                who = (", ".join(names) or None for names in (wins, losses))
                rows.append((label(method), budget, len(wins), ties, len(losses), *who))
        columns = [Column("Method"), Column("Budget"), Column("Wins"), Column("Ties"), Column("Losses")]
        columns += [Column("Better than"), Column("Worse than")]
        text = "A win is a significant difference at the same budget, corrected for all pairs; a tie is none."
        table = Table("Wins, ties and losses of each method against the others", columns, rows)
        return [Section("pairs", "Who beats whom", [text], tables=[table])]

    def _payers(self) -> Section:
        return Section("payers", "Who pays for it", [TAIL], tables=[rare_items(self.table, self.comparison.shown)])

    def _effort(self, *counts: str) -> Section:
        def of(count: str) -> Callable[[str], float]:
            return lambda method: mean(getattr(cell, count) for cell in cells if cell.method == method)

        cells = [cell for cell in self.comparison.cells if cell.rows]
        table = Table.of(
            self.methods,
            ("Method", str, label),
            ("Models trained", whole, of("trainings")),
            ("Plans measured", whole, of("measurements")),
            ("Plans finished", whole, of("finishes")),
            ("Seconds", whole, of("seconds")),
        )
        shown = table.showing("Of each search, for all budgets together; means over seeds", "Method", *counts)
        return Section("effort", "What it took", tables=[shown])

    def _failures(self) -> list[Section]:
        """What went wrong; nothing where nothing did."""
        rows = [(label(cell.method), cell.seed, cell.error) for cell in self.comparison.failures]
        columns = [Column("Method"), Column("Seed"), Column("What went wrong")]
        table = Table("The same command tries these again", columns, rows)
        return [Section("failures", "What failed", tables=[table])] if rows else []

    def _ranked(self, budget: str) -> list[Result]:
        """Of a budget, the best first."""
        return sorted((line for line in self.results if line.budget == budget), key=lambda line: -line.quality.mean)

    def _role(self, method: str) -> str:
        return self.lines[method].role if method in self.lines else "full"


def _spread_share(spread: Spread) -> Share:
    deviation = spread.deviation or 0.0
    return Share(spread.mean, spread.mean - deviation, spread.mean + deviation)

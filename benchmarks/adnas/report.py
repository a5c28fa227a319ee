"""What the searches on AD-NAS-Bench say, as Markdown and pictures; every figure and verdict is computed from the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import measures
import numpy as np
from measures import Floats, Interval
from strategies import ABLATIONS, EVALUATIONS, PROBLEMS, STRATEGIES, TABLE_V, Problem, Rows, load, rewards

from autoad_core.table import Table

MARKS = (20, 50, 100, 200)
LEVEL = 0.01  # of the paired tests, after correction
LEARNERS = ("full", "paper")
SIMPLE = ("regularized-evolution", "local-search")
SHOWN = ("random", "regularized-evolution", "local-search", "tpe", "reinforce", "full", "paper")


@dataclass(frozen=True)
class Searches:
    """All searches of one strategy on one problem.

    Attributes:
        rows: (seeds, evaluations).
        curves: (seeds, evaluations), rewards of them.
        best: (seeds, evaluations), best reward so far.
        test: (seeds,), AUROC on test of what was best on validation at the end.
        ranks: (seeds,), rank in the table of the best at the end.
    """

    rows: Rows
    curves: Floats
    best: Floats
    test: Floats
    ranks: Floats

    @property
    def distinct(self) -> Floats:
        """The curves with repetitions left out."""
        return np.where(measures.first_occurrences(self.rows), self.curves, np.nan)


Found = Mapping[str, Searches]  # by strategy


def gather(table: Table, folder: Path, problem: Problem) -> dict[str, Searches]:
    """What is in the folder, as many seeds of each strategy as of the one that has the fewest."""
    every = {name: load(folder, problem, name) for name in (*STRATEGIES, *ABLATIONS)}
    every = {name: rows for name, rows in every.items() if len(rows)}
    seeds = min(map(len, every.values()), default=0)
    worth, test = rewards(table, problem), rewards(table, problem, "test")
    out = {}
    for name, rows in every.items():
        curves = worth[rows[:seeds]]
        best = measures.best_so_far(curves)
        chosen = rows[np.arange(seeds), np.nanargmax(curves, axis=1)]
        out[name] = Searches(rows[:seeds], curves, best, test[chosen], measures.rank_of(best[:, -1], worth))
    return out


def write(table: Table, folder: Path, docs: Path) -> None:
    """Write ``strategies.md`` and its pictures to ``docs``; says so where something is missing."""
    problems = [p for p in PROBLEMS if p.task in table.tasks]
    found = {p: gather(table, folder, p) for p in problems}
    lacking = [f"{p}: {s}" for p in problems for s in STRATEGIES if s not in found[p]]
    if lacking:
        print(f"no report: not searched yet: {'; '.join(lacking)}")
        return
    ablations = gather(table, folder, TABLE_V)
    docs.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines(table, found, ablations))
    (docs / "strategies.md").write_text(text + "\n", encoding="utf-8")
    draw_best(found, docs / "strategies-best.svg")
    draw_figure_3({p: f for p, f in found.items() if p.score == "own"}, docs / "strategies-figure-3.svg")
    print(f"{docs / 'strategies.md'}: written")


def lines(table: Table, found: Mapping[Problem, Found], ablations: Found) -> Iterator[str]:
    """The Markdown."""
    seeds = min(len(s.rows) for f in found.values() for s in f.values())
    corrected = corrections(found)
    yield "# Search strategies compared"
    yield ""
    yield f"Made by `benchmarks/adnas/compare.py`: {seeds} searches of {EVALUATIONS} evaluations for each strategy and problem,"
    yield "looked up in [AD-NAS-Bench](../benchmarks/adnas/DATASHEET.md). Figures are AUROCs on validation, which is what a"
    yield "search sees, unless test is said. Brackets are 95 % intervals of the mean over seeds. Tests against random search"
    yield f"are Wilcoxon signed-rank tests of pairs with the same seed, corrected for all {len(corrected)} of them (Holm); a"
    yield f"difference counts below {LEVEL}. `full` is `bayesian-lstm` as it comes, `paper` its preset with the published"
    yield "settings; the other names of parts are `full` with only those parts switched on."
    yield ""
    yield "## In short"
    yield ""
    yield from goals(found, corrected)
    yield ""
    yield "![Best so far](strategies-best.svg)"
    for problem, strategies in found.items():
        yield ""
        yield f"## {heading(table, problem)}"
        yield ""
        yield from progress(strategies, {s: corrected[problem, s] for s in strategies if s != "random"})
    yield ""
    yield "## The paper's claims"
    yield ""
    yield "Li et al. compare with random search by curves of one search each (figure 3), and their parts by one table"
    yield "(table V), without intervals. The same quantities over many seeds:"
    yield ""
    yield "![Figure 3](strategies-figure-3.svg)"
    yield ""
    yield from claims(found)
    if set(ABLATIONS) <= set(ablations):
        yield ""
        yield from table_v(ablations)


def heading(table: Table, problem: Problem) -> str:
    """Title of a problem's section."""
    worth = rewards(table, problem)
    return (
        f"{problem.task}, reward `{problem.anomalies}`, score `{problem.score}` "
        f"({len(worth):,} architectures, best {np.nanmax(worth):.4f})"
    )


def corrections(found: Mapping[Problem, Found]) -> dict[tuple[Problem, str], float]:
    """Corrected p-values against random at the end, of every strategy on every problem."""
    ps = {
        (problem, name): measures.paired_p(each.best[:, -1], strategies["random"].best[:, -1])
        for problem, strategies in found.items()
        for name, each in strategies.items()
        if name != "random"
    }
    by_text = measures.holm({str(i): p for i, p in enumerate(ps.values())})
    return dict(zip(ps, by_text.values(), strict=True))


def goals(found: Mapping[Problem, Found], corrected: Mapping[tuple[Problem, str], float]) -> Iterator[str]:
    """Who wins, and what was hoped for of the full controller and the paper's."""
    for problem, strategies in found.items():
        ranked = sorted(strategies, key=lambda name: -strategies[name].best[:, -1].mean())
        ends = [f"{name} {strategies[name].best[:, -1].mean():.4f}" for name in (*ranked[:3], "random")]
        yield f"- {problem}: best after {EVALUATIONS} evaluations are {', '.join(ends[:3])}; {ends[3]}."
    for name in (*LEARNERS, *SIMPLE):
        above, below, quick, level = [], [], [], []
        for problem, strategies in found.items():
            mine, random = strategies[name].best, strategies["random"].best
            gain = measures.mean(mine[:, -1] - random[:, -1])
            if corrected[problem, name] < LEVEL:
                (above if gain.value > 0 else below).append(problem)
            needed = measures.evaluations_to(mine, random[:, -1].mean())
            if needed is not None and needed <= EVALUATIONS // 2:
                quick.append(problem)
            if measures.mean(mine[:, -1] - strategies[SIMPLE[0]].best[:, -1]).high >= 0:
                level.append(problem)
        beside = f"; it is not below regularized evolution on {len(level)}" if name != SIMPLE[0] else ""
        yield (
            f"- `{name}` is above random on {len(above)} of {len(found)} problems and below it on {len(below)}; "
            f"it reaches random's best of {EVALUATIONS} in half the evaluations on {len(quick)}{beside}."
        )


def progress(strategies: Found, corrected: Mapping[str, float]) -> Iterator[str]:
    """The table of one problem."""
    marks = " | ".join(f"at {m}" for m in MARKS)
    yield f"| strategy | {marks} | p against random | evaluations to random's best | rank at {MARKS[-1]} | test |"
    yield "|---|" + "---:|" * (len(MARKS) + 4)
    target = float(strategies["random"].best[:, -1].mean())
    for name in STRATEGIES:
        each = strategies[name]
        cells = [shown(measures.mean(each.best[:, m - 1])) for m in MARKS]
        needed = measures.evaluations_to(each.best, target)
        low, high = measures.evaluations_interval(each.best, target)
        cells += [
            "" if name == "random" else p_value(corrected[name]),
            f"{count(needed)} [{count(low)}, {count(high)}]",
            f"{np.median(each.ranks):.0f}",
            shown(measures.mean(each.test)),
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Evaluations to random's best: when the mean of the best so far reaches {target:.4f}, random's mean at"
    yield f"{EVALUATIONS}; bootstrap interval over seeds. Rank: median rank in the whole table of the best found. Test: its"
    yield "AUROC on test."


def claims(found: Mapping[Problem, Found]) -> Iterator[str]:
    """Figure 3, claim by claim."""
    for name in LEARNERS:
        yield f"`{name}`:"
        yield ""
        for problem, strategies in found.items():
            mine, random = strategies[name], strategies["random"]
            top = [
                measures.mean(
                    measures.top_so_far(mine.distinct)[:, m - 1]
                    - measures.top_so_far(random.distinct)[:, m - 1]
                )
                for m in MARKS
            ]
            means, spreads = measures.per_block(mine.curves)
            rise = measures.mean(means[:, -1] - means[:, 0])
            drop = measures.mean(spreads[:, -1] - spreads[:, 0])
            yield (
                f"- {problem}: the top five so far are above random's at {where(top)}; "
                f"by {signed(top[-1])} at {MARKS[-1]}. From the first 20 to the last, the mean per 20 {moved(rise)} "
                f"by {signed(rise)}; the standard deviation {moved(drop)} by {signed(drop)}."
            )
        yield ""


def table_v(found: Found) -> Iterator[str]:
    """Table V, with the settings of both presets."""
    yield "Table V, on Fashion-MNIST with CIFAR-10 as anomalies and the score `own`, as in the paper. Published there, in"
    yield "percent: eta 0, 0.01, 0.1 gave 96.51, 98.50, 98.41 after 200; replay 0, 5, 10 gave 98.00, 98.04, 98.12."
    for name, preset in (("full", "the defaults"), ("paper", "the paper's settings")):
        yield ""
        yield f"| {preset} | at 20 | at 100 | at 200 | mean of all | standard deviation |"
        yield "|---|---:|---:|---:|---:|---:|"
        variants = {
            "curiosity 0": f"{name}, curiosity 0",
            "curiosity 0.01, replay 10": name,
            "curiosity 0.1": f"{name}, curiosity 0.1",
            "replay 0": f"{name}, replay 0",
            "replay 5": f"{name}, replay 5",
        }
        for label, key in variants.items():
            each = found[key]
            cells = [shown(measures.mean(each.best[:, m - 1])) for m in (20, 100, 200)]
            spread = np.nanstd(each.curves, axis=1)
            cells += [shown(measures.mean(np.nanmean(each.curves, axis=1))), shown(measures.mean(spread))]
            yield f"| {label} | " + " | ".join(cells) + " |"
        yield ""
        for label, a, b in (
            ("curiosity 0.01 against none", name, f"{name}, curiosity 0"),
            ("curiosity 0.1 against 0.01", f"{name}, curiosity 0.1", name),
            ("replay 10 against none", name, f"{name}, replay 0"),
            ("replay 10 against 5", name, f"{name}, replay 5"),
        ):
            gain = measures.mean(found[a].best[:, -1] - found[b].best[:, -1])
            p = measures.paired_p(found[a].best[:, -1], found[b].best[:, -1])
            holds = "no difference shown" if p >= LEVEL else "better" if gain.value > 0 else "worse"
            yield f"- {label}, at 200: {holds}, {signed(gain)}, {p_value(p)} (uncorrected)."


def shown(interval: Interval) -> str:
    """A mean with its interval."""
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def moved(change: Interval) -> str:
    """What the sign of a change is, where the interval leaves one."""
    return "rises" if change.low > 0 else "falls" if change.high < 0 else "stays, within its interval,"


def where(gains: list[Interval]) -> str:
    """At which marks a gain is above nothing."""
    marks = [str(m) for m, gain in zip(MARKS, gains, strict=True) if gain.low > 0]
    return f"{', '.join(marks)} of {', '.join(map(str, MARKS))} evaluations" if marks else "none of the marks"


def p_value(p: float) -> str:
    """In words that a table can hold."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(evaluations: int | None) -> str:
    """Evaluations, or that the budget was not enough."""
    return f"> {EVALUATIONS}" if evaluations is None else str(evaluations)


def draw_best(found: Mapping[Problem, Found], to: Path) -> None:
    """The mean of the best so far, a panel a problem."""
    axes, figure = panels(2, -(-len(found) // 2))
    for i, (problem, strategies) in enumerate(found.items()):
        axis = axes[i % 2][i // 2]
        for name in SHOWN:
            best = strategies[name].best
            half = 1.96 * best.std(0, ddof=1) / np.sqrt(len(best))
            line(axis, np.arange(1, EVALUATIONS + 1)[9:], best.mean(0)[9:], half[9:], name)
        axis.set_title(str(problem))
        axis.set_xlabel("evaluations")
    axes[0][0].set_ylabel("best AUROC so far")
    axes[1][0].set_ylabel("best AUROC so far")
    save(figure, axes, to)


def draw_figure_3(found: Mapping[Problem, Found], to: Path) -> None:
    """Top five so far, mean and standard deviation per 20: the paper's figure 3."""
    axes, figure = panels(3, len(found))
    for column, (problem, strategies) in enumerate(found.items()):
        for name in ("random", *SIMPLE[:1], *LEARNERS):
            each = strategies[name]
            top = np.nanmean(measures.top_so_far(each.distinct)[:, 9:], 0)
            line(axes[0][column], np.arange(10, EVALUATIONS + 1), top, None, name)
            for row, blocks in zip((1, 2), measures.per_block(each.curves), strict=True):
                at = np.arange(20, EVALUATIONS + 1, 20)
                half = 1.96 * blocks.std(0, ddof=1) / np.sqrt(len(blocks))
                line(axes[row][column], at, blocks.mean(0), half, name)
        axes[0][column].set_title(str(problem))
        axes[2][column].set_xlabel("evaluations")
    for row, label in enumerate(("mean of the top five so far", "mean per 20", "standard deviation per 20")):
        axes[row][0].set_ylabel(label)
    save(figure, axes, to)


def panels(rows: int, columns: int):  # type: ignore[no-untyped-def]
    """Axes [row][column], and their figure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "adnas"  # the same file every time
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    return figure.subplots(rows, columns, squeeze=False), figure


def line(axis, x: Floats, y: Floats, half: Floats | None, name: str) -> None:  # type: ignore[no-untyped-def]
    """One strategy's line with its band, in the colour that it has everywhere."""
    colour = "black" if name == "random" else f"C{SHOWN.index(name)}"
    axis.plot(x, y, label=name, color=colour, linewidth=1.2, linestyle="--" if name == "random" else "-")
    if half is not None:
        axis.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)


def save(figure, axes, to: Path) -> None:  # type: ignore[no-untyped-def]
    """With one legend below all panels, and no date."""
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(to, metadata={"Date": None})

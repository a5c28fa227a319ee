"""What the searches on AD-NAS-Bench say, as Markdown and pictures; every figure and verdict is computed from the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import measures
import numpy as np
from measures import Floats, Interval
from strategies import (
    ABLATIONS,
    EVALUATIONS,
    LEARNERS,
    PROBLEMS,
    STRATEGIES,
    TABLE_V,
    Problem,
    Rows,
    Store,
    opened,
    rewards,
)

from autoad_core.table import Table

MARKS = (20, 50, 100, 200)
LEVEL = 0.01  # of the tests, after correction
EVOLUTION = "regularized-evolution"
SHOWN = ("random", EVOLUTION, "local-search", "tpe", "reinforce", "full", "paper")


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
    def end(self) -> Floats:
        """(seeds,) the best of all."""
        return np.asarray(self.best[:, -1])

    @property
    def top_five(self) -> Floats:
        """(seeds, evaluations), mean of the five best distinct architectures so far."""
        once = np.where(measures.first_occurrences(self.rows), self.curves, np.nan)
        return measures.top_so_far(once)


Found = Mapping[str, Searches]  # by strategy


def gather(store: Store, problem: Problem) -> dict[str, Searches]:
    """What is there, as many seeds of each strategy as of the one that has the fewest."""
    every = {name: store.load(problem, name) for name in (*STRATEGIES, *ABLATIONS)}
    every = {name: rows for name, rows in every.items() if len(rows)}
    seeds = min(map(len, every.values()), default=0)
    table = opened(store.table)
    worth, test = rewards(table, problem), rewards(table, problem, "test")
    out = {}
    for name, rows in every.items():
        curves = worth[rows[:seeds]]
        best = measures.best_so_far(curves)
        chosen = rows[np.arange(seeds), np.nanargmax(curves, axis=1)]
        ranks = measures.rank_of(best[:, -1], worth)
        out[name] = Searches(rows[:seeds], curves, best, test[chosen], ranks)
    return out


def write(store: Store, docs: Path, wanted: Sequence[Problem] = PROBLEMS) -> None:
    """Write ``strategies.md`` and its pictures on the problems ``wanted`` to ``docs``, or say what is missing."""
    table = opened(store.table)
    problems = [p for p in wanted if p.task in table.tasks]
    found = {p: gather(store, p) for p in problems}
    lacking = [f"{p}: {s}" for p in problems for s in STRATEGIES if s not in found[p]]
    if lacking or not problems:
        print(f"no report: not searched yet: {'; '.join(lacking) or 'anything'}")
        return
    ablations = gather(store, TABLE_V) if TABLE_V.task in table.tasks else {}
    docs.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines(table, found, ablations))
    (docs / "strategies.md").write_text(text + "\n", encoding="utf-8")
    draw_best(found, docs / "strategies-best.svg")
    draw_figure_3({p: f for p, f in found.items() if p.score == "own"}, docs / "strategies-figure-3.svg")
    print(f"{docs / 'strategies.md'}: written")


def lines(table: Table, found: Mapping[Problem, Found], ablations: Found) -> Iterator[str]:
    """The Markdown."""
    counts = sorted({len(s.rows) for f in found.values() for s in f.values()})
    seeds = " to ".join(map(str, (counts[0], *counts[1:][-1:])))
    corrected = corrections(found)
    yield "# Search strategies compared"
    yield ""
    yield f"Made by `benchmarks/adnas/compare.py`: {seeds} searches of {EVALUATIONS} evaluations for each strategy and problem,"
    yield "looked up in [AD-NAS-Bench](../benchmarks/adnas/DATASHEET.md). Figures are AUROCs on validation, which is what a"
    yield "search sees, unless test is said. Brackets are 95 % intervals of the mean over seeds. Tests against random search"
    yield f"are Student's paired tests over seeds, corrected for all {len(corrected)} of them (Holm); a difference counts below"
    yield f"{LEVEL}. All other intervals stand for themselves, uncorrected. `full` is `bayesian-lstm` as it comes, `paper` its"
    yield "preset with the published settings; the rows between are its parts, alone or on top of plain REINFORCE or of weights"
    yield "that are distributions, with the other settings of `full`."
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
    if {"random", *LEARNERS, *ABLATIONS} <= set(ablations):
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
        (problem, name): measures.paired_p(each.end, strategies["random"].end)
        for problem, strategies in found.items()
        for name, each in strategies.items()
        if name != "random"
    }
    by_text = measures.holm({str(i): p for i, p in enumerate(ps.values())})
    return dict(zip(ps, by_text.values(), strict=True))


def goals(found: Mapping[Problem, Found], corrected: Mapping[tuple[Problem, str], float]) -> Iterator[str]:
    """Who wins, and how the strategies stand to random search and to evolution."""
    for problem, strategies in found.items():
        ranked = sorted(strategies, key=lambda name: -strategies[name].end.mean())
        ends = [f"{name} {strategies[name].end.mean():.4f}" for name in (*ranked[:3], "random")]
        yield f"- {problem}: best after {EVALUATIONS} evaluations are {', '.join(ends[:3])}; {ends[3]}."
    yield ""
    yield f"On how many of the {len(found)} problems a strategy is"
    yield ""
    titles = (
        "above random",
        "below random",
        "random's best in half the evaluations",
        "mean below evolution's",
    )
    yield f"| | {' | '.join(titles)} | shown to be below evolution |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in (s for s in STRATEGIES if s != "random"):
        gains = {p: measures.mean(f[name].end - f["random"].end).value for p, f in found.items()}
        differs = [p for p in found if corrected[p, name] < LEVEL]
        needed = [measures.evaluations_to(f[name].best, f["random"].end.mean()) for f in found.values()]
        beside = [measures.mean(f[name].end - f[EVOLUTION].end) for f in found.values()]
        counts = (
            sum(gains[p] > 0 for p in differs),
            sum(gains[p] < 0 for p in differs),
            sum(n is not None and n <= EVALUATIONS // 2 for n in needed),
            sum(b.value < 0 for b in beside),
            sum(b.high < 0 for b in beside),
        )
        yield f"| {name} | " + " | ".join(map(str, counts)) + " |"


def progress(strategies: Found, corrected: Mapping[str, float]) -> Iterator[str]:
    """The table of one problem."""
    marks = " | ".join(f"at {m}" for m in MARKS)
    yield f"| strategy | {marks} | p against random | evaluations to random's best | rank at {MARKS[-1]} | test |"
    yield "|---|" + "---:|" * (len(MARKS) + 4)
    random = strategies["random"].end
    for name in STRATEGIES:
        each = strategies[name]
        cells = [shown(measures.mean(each.best[:, m - 1])) for m in MARKS]
        needed = measures.evaluations_to(each.best, random.mean())
        low, high = measures.evaluations_interval(each.best, random)
        cells += [
            "" if name == "random" else p_value(corrected[name]),
            f"{count(needed)} [{count(low)}, {count(high)}]",
            f"{np.median(each.ranks):.0f}",
            shown(measures.mean(each.test)),
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Evaluations to random's best: when the mean of the best so far reaches {random.mean():.4f}, random's mean at"
    yield f"{EVALUATIONS}; bootstrap interval over pairs of seeds. Rank: median rank in the whole table of the best found."
    yield "Test: its AUROC on test."


def claims(found: Mapping[Problem, Found]) -> Iterator[str]:
    """Figure 3, claim by claim, each against random search."""
    yield "1. *The top five so far are consistently above random's.* The difference after 20, 50, 100 and 200 evaluations."
    yield "2. *The mean per 20 evaluations rises, as random's does not.* From the first 20 to the last, less random's change."
    yield "3. *The standard deviation per 20 drops, compared with random's.* From the first 20 to the last, less random's."
    for name in LEARNERS:
        yield ""
        yield f"| `{name}` | top five | mean per 20 | standard deviation per 20 |"
        yield "|---|---|---|---|"
        for problem, strategies in found.items():
            mine, random = strategies[name], strategies["random"]
            tops = [measures.mean((mine.top_five - random.top_five)[:, m - 1]) for m in MARKS]
            above = sum(t.low > 0 for t in tops)
            first = (
                "holds"
                if above == len(MARKS)
                else f"holds at {above} of {len(MARKS)}"
                if above
                else "does not hold"
            )
            changes = [
                measures.mean((a[:, -1] - a[:, 0]) - (b[:, -1] - b[:, 0]))
                for a, b in zip(
                    measures.per_block(mine.curves), measures.per_block(random.curves), strict=True
                )
            ]
            rises, drops = changes
            cells = [
                f"{first}: " + ", ".join(f"{t.value:+.4f}" for t in tops),
                f"{verdict(rises, 1)}: {signed(rises)}",
                f"{verdict(drops, -1)}: {signed(drops)}",
            ]
            yield f"| {problem} | " + " | ".join(cells) + " |"


def table_v(found: Found) -> Iterator[str]:
    """Table V, with the settings of both presets."""
    seeds = len(found["random"].rows)
    yield f"Table V, on Fashion-MNIST with CIFAR-10 as anomalies and the score `own`, as in the paper, over {seeds} seeds."
    yield "Published there, in percent: after 200, eta 0, 0.01, 0.1 gave 96.51, 98.50, 98.41 and replay 0, 5, 10 gave 98.00,"
    yield "98.04, 98.12."
    for name in LEARNERS:
        yield ""
        yield f"| `{name}` | at 20 | at 100 | at 200 | mean of all | standard deviation |"
        yield "|---|---:|---:|---:|---:|---:|"
        for key in (name, *(k for k in ABLATIONS if k.startswith(f"{name},"))):
            each = found[key]
            cells = [shown(measures.mean(each.best[:, m - 1])) for m in (20, 100, 200)]
            cells += [
                shown(measures.mean(np.nanmean(each.curves, axis=1))),
                shown(measures.mean(spread(each))),
            ]
            label = key.removeprefix(f"{name}, ") if key != name else "curiosity 0.01, replay 10"
            yield f"| {label} | " + " | ".join(cells) + " |"
        none, more = found[f"{name}, curiosity 0"], found[f"{name}, curiosity 0.1"]
        without, five = found[f"{name}, replay 0"], found[f"{name}, replay 5"]
        whole = found[name]
        yield ""
        for claim, a, b, at in (
            ("without curiosity the result after 200 is worse", whole, none, (200,)),
            ("more curiosity (0.1 against 0.01) is better after 20 and 100", more, whole, (20, 100)),
            ("a buffer of 10 is better than none after 20, 100 and 200", whole, without, (20, 100, 200)),
            ("a buffer of 10 is better than one of 5 after 200", whole, five, (200,)),
        ):
            gains = [measures.mean(a.best[:, m - 1] - b.best[:, m - 1]) for m in at]
            verdicts = [f"{verdict(g, 1)} at {m}: {signed(g)}" for g, m in zip(gains, at, strict=True)]
            yield f"- *{claim[0].upper()}{claim[1:]}*: {'; '.join(verdicts)}."
        wider = [measures.mean(spread(b) - spread(a)) for a, b in ((none, whole), (whole, more))]
        texts = [f"{verdict(w, 1)}: {signed(w)}" for w in wider]
        yield f"- *The standard deviation grows with eta*: from 0 to 0.01 {texts[0]}; from 0.01 to 0.1 {texts[1]}."


def spread(each: Searches) -> Floats:
    """(seeds,) standard deviation of all rewards of a search."""
    return np.asarray(np.nanstd(each.curves, axis=1))


def verdict(change: Interval, sign: int) -> str:
    """Whether a change of this sign is shown, the opposite, or neither."""
    low, high = sorted((sign * change.low, sign * change.high))
    return "holds" if low > 0 else "the opposite holds" if high < 0 else "not shown"


def shown(interval: Interval) -> str:
    """A mean with its interval."""
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


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
        for name in ("random", EVOLUTION, *LEARNERS):
            each = strategies[name]
            top = np.nanmean(each.top_five[:, 9:], 0)
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
    columns = max(1, int(figure.get_figwidth() // 1.8))  # inches that the longest name takes
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(to, metadata={"Date": None})

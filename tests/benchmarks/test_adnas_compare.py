"""The comparison of strategies: its statistics against brute force, and a whole report on a small table."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import compare
import measures
import numpy as np
import pytest
import report
import strategies
from numpy.typing import NDArray
from scipy import stats

from autoad_core.table import BUDGETS, PARTS, UNIT, Table

RNG = np.random.default_rng(0)


def curves(seeds: int = 6, evaluations: int = 40) -> measures.Floats:
    """Random rewards, one in ten missing."""
    out = RNG.uniform(0.4, 1, (seeds, evaluations))
    out[RNG.uniform(size=out.shape) < 0.1] = np.nan
    out[:, 0] = 0.5
    return out


# Measures


def test_best_and_top_so_far_are_those_of_a_sort() -> None:
    given = curves()
    best, top = measures.best_so_far(given), measures.top_so_far(given, 3)
    for s, t in itertools.product(range(len(given)), range(given.shape[1])):
        seen = sorted((v for v in given[s, : t + 1] if not math.isnan(v)), reverse=True)
        assert best[s, t] == seen[0]
        if len(seen) < 3:
            assert math.isnan(top[s, t])
        else:
            assert top[s, t] == pytest.approx(sum(seen[:3]) / 3)


def test_first_occurrences() -> None:
    rows = RNG.integers(0, 6, (5, 30)).astype(np.int16)
    found = measures.first_occurrences(rows)
    for row, marks in zip(rows.tolist(), found.tolist(), strict=True):
        assert marks == [v not in row[:i] for i, v in enumerate(row)]


def test_blocks() -> None:
    given = curves()
    mean, spread = measures.per_block(given, 20)
    part = [v for v in given[2, 20:40] if not math.isnan(v)]
    assert mean[2, 1] == pytest.approx(sum(part) / len(part))
    assert spread[2, 1] == pytest.approx(np.std(part))


def test_the_mean_has_students_interval() -> None:
    values = RNG.normal(3, 2, 12)
    found = measures.mean(values)
    low, high = stats.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / math.sqrt(12))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert measures.mean(np.array([0.7])) == measures.Interval(0.7, 0.7, 0.7)
    assert measures.mean(np.full(5, 0.25)) == measures.Interval(0.25, 0.25, 0.25)


def test_holm_is_the_closure_of_bonferroni() -> None:
    """A hypothesis is rejected when every set that holds it is: Bonferroni's p of each set, and the worst of them."""
    for _ in range(20):
        ps = {name: float(p) for name, p in zip("abcde", RNG.uniform(0, 0.3, 5), strict=True)}
        found = measures.holm(ps)
        for name in ps:
            sets = [s for n in range(1, 6) for s in itertools.combinations(ps, n) if name in s]
            worst = max(min(1.0, len(s) * min(ps[k] for k in s)) for s in sets)
            assert found[name] == pytest.approx(worst)


def test_paired_test_is_the_exact_one_on_few_pairs() -> None:
    """All signs of six differences, by hand."""
    differences = np.array([0.4, -0.1, 0.3, 0.7, 0.2, 0.55])
    ranks = np.abs(differences).argsort().argsort() + 1
    total = ranks[differences > 0].sum()
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=6)
    ]
    one_sided = sum(s >= total for s in sums) / len(sums)
    assert measures.paired_p(differences, np.zeros(6)) == pytest.approx(2 * one_sided)
    assert measures.paired_p(np.ones(5), np.ones(5)) == 1


def test_evaluations_to_a_target() -> None:
    best = measures.best_so_far(curves(30))
    for target in (0.5, 0.9, 0.97, 2.0):
        means = [sum(best[:, t]) / len(best) for t in range(best.shape[1])]
        expected = next((t + 1 for t, m in enumerate(means) if m >= target), None)
        assert measures.evaluations_to(best, target) == expected
        low, high = measures.evaluations_interval(best, target)
        after = best.shape[1] + 1
        assert (low or after) <= (expected or after) <= (high or after)
    steps = np.tile(np.linspace(0, 1, 11), (4, 1))
    assert measures.evaluations_interval(steps, 0.5) == (6, 6)
    assert measures.evaluations_interval(steps, 2.0) == (None, None)


def test_ranks_count_what_is_better() -> None:
    worth = np.array([0.3, np.nan, 0.9, 0.5, 0.9])
    assert measures.rank_of(np.array([0.9, 0.5, 0.3]), worth).tolist() == [1, 3, 4]


# Searches and report

SIZES = (4, 4, 3, 3, 2, 2, 2)


def worth_of(archs: NDArray[np.uint8]) -> measures.Floats:
    """Each choice counts by itself, and a little noise."""
    share = archs / (np.array(SIZES) - 1)
    return np.asarray(0.5 + 0.4 * share.mean(1) + np.random.default_rng(0).normal(0, 0.01, len(archs)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 1,152 architectures on all tasks of the benchmark."""
    archs = np.array(list(itertools.product(*map(range, SIZES))), np.uint8)
    arrays, tasks = {}, {}
    for task, sets in (
        ("fashion-mnist", ["mnist", "cifar10"]),
        ("cifar10", ["tiny-imagenet"]),
        ("mnist-8", ["anomalous"]),
    ):
        shape = (len(archs), len(BUDGETS), len(PARTS), 2, len(sets))
        aurocs = np.broadcast_to(worth_of(archs)[:, None, None, None, None], shape)
        ones = np.ones(len(archs), np.int64)
        arrays |= {
            f"{task}.archs": archs,
            f"{task}.aurocs": np.round(aurocs * UNIT).astype(np.uint16),
            f"{task}.repeated": np.zeros(0, np.int32),
            f"{task}.repeats": np.zeros((0, 2, *shape[2:]), np.uint16),
            f"{task}.seconds": np.ones((len(archs), 2), np.float32),
            f"{task}.flops": ones,
            f"{task}.parameters": ones,
            f"{task}.warnings": ones.astype(np.uint8),
        }
        choices = [{"name": f"c{i}", "options": list(range(n))} for i, n in enumerate(SIZES)]
        tasks[task] = {"sets": sets, "choices": choices}
    meta = {"columns": ["own", "sum"], "warnings": [], "tasks": tasks, "about": {}}
    path = tmp_path_factory.mktemp("table") / "table.npz"
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
    return path


@pytest.mark.slow
def test_a_search_takes_the_rows_that_were_proposed_and_goes_on_where_it_stopped(
    table: Path, tmp_path: Path
) -> None:
    problem = strategies.PROBLEMS[0]
    work = [(problem, "random"), (problem, "regularized-evolution")]
    compare.run(tmp_path / "a", table, 3, work, 1)
    compare.run(tmp_path / "b", table, 1, work, 2)
    compare.run(tmp_path / "b", table, 3, work, 2)
    for _, name in work:
        a, b = (strategies.load(tmp_path / folder, problem, name) for folder in "ab")
        assert a.shape == (3, strategies.EVALUATIONS)
        assert np.array_equal(a, b)
        assert not np.array_equal(a[0], a[1])
        assert min(map(len, map(set, a.tolist()))) == strategies.EVALUATIONS
    found = report.gather(Table.open(table), tmp_path / "a", problem)
    assert set(found) == {"random", "regularized-evolution"}
    evolution, random = found["regularized-evolution"], found["random"]
    assert evolution.best[:, -1].mean() > random.best[:, -1].mean()
    np.testing.assert_allclose(evolution.test, evolution.best[:, -1])


def made_up(table: Table, folder: Path, seeds: int = 40) -> None:
    """Searches as if: `full` and evolution find the best at once, `paper` never finds anything, the others are random."""
    rng = np.random.default_rng(0)
    for problem in (*strategies.PROBLEMS, strategies.TABLE_V):
        order = np.argsort(strategies.rewards(table, problem))
        for name in (*strategies.STRATEGIES, *strategies.ABLATIONS):
            rows = np.stack([rng.permutation(len(order))[: strategies.EVALUATIONS] for _ in range(seeds)])
            if name in ("full", "regularized-evolution"):
                rows[:, 5] = order[-1]
            if name == "paper":
                rows = order[rng.integers(0, 100, rows.shape)]
            np.save(strategies.file_of(folder, problem, name), rows.astype(np.int16))


def test_the_report_says_what_the_searches_say(table: Path, tmp_path: Path) -> None:
    opened = Table.open(table)
    made_up(opened, tmp_path)
    docs = tmp_path / "docs"
    report.write(opened, tmp_path, docs)
    text = (docs / "strategies.md").read_text()
    assert "compare.py`: 40 searches of 200 evaluations" in text
    assert (
        "`full` is above random on 6 of 6 problems and below it on 0; it reaches random's best of 200 in half "
        "the evaluations on 6; it is not below regularized evolution on 6." in text
    )
    assert "`paper` is above random on 0 of 6 problems and below it on 6" in text
    best = float(np.nanmax(strategies.rewards(opened, strategies.PROBLEMS[0])))
    assert f"| full | {best:.4f} [{best:.4f}, {best:.4f}] |" in text
    assert "- curiosity 0.01 against none, at 200: better" in text
    assert "- replay 10 against 5, at 200: worse" in text
    assert "nan" not in text.replace("cnan", "")
    for picture in ("strategies-best.svg", "strategies-figure-3.svg"):
        drawn = (docs / picture).read_text()
        assert drawn.count("regularized-evolution") == 1
        report.write(opened, tmp_path, docs)
        assert (docs / picture).read_text() == drawn
    strategies.file_of(tmp_path, strategies.PROBLEMS[0], "tpe").unlink()
    (docs / "strategies.md").unlink()
    report.write(opened, tmp_path, docs)
    assert not (docs / "strategies.md").exists()

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

from autoad_core.space import Choice, Space
from autoad_core.table import BUDGETS, PARTS, UNIT, Table
from autoad_plugins._bayesian_lstm import BayesianLstm

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


def test_paired_test_is_about_that_of_all_signs() -> None:
    """A permutation test of twelve differences, every sign of each by hand."""
    differences = np.random.default_rng(1).normal(0.2, 1, 12)
    signs = np.array(list(itertools.product((-1, 1), repeat=12)))
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert 0.01 < exact < 0.5
    assert measures.paired_p(differences, np.zeros(12)) == pytest.approx(exact, rel=0.15)
    assert measures.paired_p(np.ones(5), np.ones(5)) == 1
    assert measures.paired_p(np.ones(5), np.zeros(5)) == 0


def test_evaluations_to_a_target() -> None:
    best = measures.best_so_far(curves(30))
    for target in (0.5, 0.9, 0.97, 2.0):
        means = [sum(best[:, t]) / len(best) for t in range(best.shape[1])]
        expected = next((t + 1 for t, m in enumerate(means) if m >= target), None)
        assert measures.evaluations_to(best, target) == expected
        low, high = measures.evaluations_interval(best, np.full(30, target))
        after = best.shape[1] + 1
        assert (low or after) <= (expected or after) <= (high or after)
    steps = np.tile(np.linspace(0, 1, 11), (4, 1))
    assert measures.evaluations_interval(steps, np.full(4, 0.5)) == (6, 6)
    assert measures.evaluations_interval(steps, np.full(4, 2.0)) == (None, None)


def test_the_target_moves_with_the_seeds() -> None:
    """Where a seed's searches are alike, every resample needs as many evaluations, whatever the seeds are worth."""
    best = np.linspace(0, 1, 11)[None] * np.arange(1, 9)[:, None]
    assert measures.evaluations_interval(best, best[:, 5]) == (6, 6)


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
    first, second = (strategies.Store(tmp_path / name, table) for name in "ab")
    compare.run(first, 3, work, 1)
    compare.run(second, 1, work, 2)
    compare.run(second, 3, work, 2)
    for _, name in work:
        a, b = (store.load(problem, name) for store in (first, second))
        assert a.shape == (3, strategies.EVALUATIONS)
        assert np.array_equal(a, b)
        assert not np.array_equal(a[0], a[1])
        assert min(map(len, map(set, a.tolist()))) == strategies.EVALUATIONS
    found = report.gather(first, problem)
    assert set(found) == {"random", "regularized-evolution"}
    evolution, random = found["regularized-evolution"], found["random"]
    assert evolution.best[:, -1].mean() > random.best[:, -1].mean()
    np.testing.assert_allclose(evolution.test, evolution.best[:, -1])


def made_up(store: strategies.Store, seeds: int = 40) -> None:
    """Searches as if: `full` and evolution find the best at once, `paper` never finds anything, the others are random."""
    store.folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for problem in (*strategies.PROBLEMS, strategies.TABLE_V):
        order = np.argsort(strategies.rewards(Table.open(store.table), problem))
        for name in (*strategies.STRATEGIES, *strategies.ABLATIONS):
            rows = np.stack([rng.permutation(len(order))[: strategies.EVALUATIONS] for _ in range(seeds)])
            if name in ("full", "regularized-evolution"):
                rows[:, 5] = order[-1]
            if name == "paper":
                rows = order[rng.integers(0, 100, rows.shape)]
            store.save(problem, name, rows.astype(np.int16))


def test_the_report_says_what_the_searches_say(table: Path, tmp_path: Path) -> None:
    store, docs = strategies.Store(tmp_path, table), tmp_path / "docs"
    made_up(store)
    report.write(store, docs)
    text = (docs / "strategies.md").read_text()
    assert "compare.py`: 40 searches of 200 evaluations" in text
    assert "| full | 6 | 0 | 6 | 0 | 0 |" in text
    assert "| paper | 0 | 6 | 0 | 6 | 6 |" in text
    best = float(np.nanmax(strategies.rewards(Table.open(table), strategies.PROBLEMS[0])))
    assert f"| full | {best:.4f} [{best:.4f}, {best:.4f}] |" in text
    assert "- *Without curiosity the result after 200 is worse*: holds at 200" in text
    assert "- *A buffer of 10 is better than one of 5 after 200*: the opposite holds at 200" in text
    assert text.count("| does not hold: -") == 6
    assert "nan" not in text
    for picture in ("strategies-best.svg", "strategies-figure-3.svg"):
        drawn = (docs / picture).read_text()
        assert drawn.count("regularized-evolution") == 1
        report.write(store, docs)
        assert (docs / picture).read_text() == drawn


def test_there_is_no_report_of_half_a_comparison(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = strategies.Store(tmp_path, table)
    made_up(store, 2)
    store.file(strategies.PROBLEMS[0], "tpe").unlink()
    report.write(store, tmp_path / "docs")
    assert capsys.readouterr().out == "no report: not searched yet: fashion-mnist, own: tpe\n"
    assert not (tmp_path / "docs").exists()


def test_searches_with_other_settings_or_in_another_table_do_not_count(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, problem = strategies.Store(tmp_path, table), strategies.PROBLEMS[0]
    store.save(problem, "full", np.zeros((2, strategies.EVALUATIONS), np.int16))
    assert len(store.load(problem, "full")) == 2
    changed = {"full": strategies.Strategy("bayesian-lstm", {"hidden": 51})}
    with monkeypatch.context() as patched:
        patched.setattr(strategies, "STRATEGIES", strategies.STRATEGIES | changed)
        assert len(store.load(problem, "full")) == 0
    with np.load(table) as kept:
        arrays = {k: kept[k] for k in kept.files}
    arrays["fashion-mnist.aurocs"] = arrays["fashion-mnist.aurocs"] + np.uint16(1)
    np.savez_compressed(tmp_path / "other.npz", **arrays)
    other = strategies.Store(tmp_path, tmp_path / "other.npz")
    assert len(other.load(problem, "full")) == 0


def test_full_has_every_part_of_the_paper() -> None:
    settings = BayesianLstm(Space((Choice("a", (0, 1)),)), 0).settings
    assert settings.bayesian
    assert settings.sharpening
    assert (settings.curiosity, settings.replay, settings.top) == (0.01, 10, 4)

"""The built-in controllers keep the contract, cover small spaces, and search as their papers say."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest

from autoad_core import Arch, Choice, Controller, Outcome, Space
from autoad_core.testing import ControllerContract, check_plugin
from autoad_plugins._bayesian_lstm import BayesianLstm
from autoad_plugins._evolution import RegularizedEvolution
from autoad_plugins._local_search import LocalSearch
from autoad_plugins._random import Fresh, RandomSearch
from autoad_plugins._tpe import Tpe

Make = Callable[[Space, int], Controller]
ALL: list[Make] = [RandomSearch, RegularizedEvolution, LocalSearch]
every_controller = pytest.mark.parametrize("make", ALL)


class TestRandom(ControllerContract):
    make = staticmethod(RandomSearch)


class TestEvolution(ControllerContract):
    make = staticmethod(RegularizedEvolution)


class TestSmallEvolution(ControllerContract):
    @staticmethod
    def make(space: Space, seed: int) -> Controller:
        return RegularizedEvolution(space, seed, population=3, sample=2)


class TestLocalSearch(ControllerContract):
    make = staticmethod(LocalSearch)


class TestShortStartLocalSearch(ControllerContract):
    @staticmethod
    def make(space: Space, seed: int) -> Controller:
        return LocalSearch(space, seed, starts=1)


def test_declarations() -> None:
    plugins = check_plugin("autoad_plugins.controllers")
    names = {entry.component.name: entry.load() for entry in plugins.registry}
    assert names == {
        "random": RandomSearch,
        "regularized-evolution": RegularizedEvolution,
        "local-search": LocalSearch,
        "bayesian-lstm": BayesianLstm,
        "tpe": Tpe,
    }


# What they search here


def grid(choices: int, options: int) -> Space:
    return Space(tuple(Choice(f"c{i}", tuple(range(options))) for i in range(choices)))


def distance(a: Arch, b: Arch) -> int:
    """Number of choices in which two points differ."""
    return sum(x != y for x, y in zip(a, b, strict=True))


def drive(
    controller: Controller, value: Callable[[Arch], float | None], trials: int, lag: int = 8
) -> list[Arch]:
    """The proposals of a search in which None stands for a failure."""
    archs: list[Arch] = []
    for i in range(trials):
        if 0 <= i - lag < len(archs):
            tell(controller, archs[i - lag], value(archs[i - lag]), i - lag)
        archs += controller.ask(1)
    return archs


def tell(controller: Controller, arch: Arch, value: float | None, number: int = 0) -> None:
    controller.tell([Outcome(number, arch, "ok" if value is not None else "failed", value)])


# What all of them promise beyond the contract


@every_controller
@pytest.mark.parametrize("lag", [1, 8])
def test_a_small_space_is_covered_without_repeats_and_then_left(make: Make, lag: int) -> None:
    conditional = Space(
        (Choice("a", ("x", "y")), Choice("b", (1, 2, 3), when=("a", ("y",))), Choice("c", (1, 2, 3, 4)))
    )
    for space, points in ((grid(3, 3), 27), (conditional, 16), (grid(2, 1), 1)):
        for seed in range(5):
            archs = drive(make(space, seed), lambda arch: -float(sum(arch)), 60, lag)
            assert len(archs) == len(set(archs)) == points


@every_controller
def test_a_large_space_is_searched_without_repeats(make: Make) -> None:
    space = grid(6, 5)
    archs = drive(make(space, 0), lambda arch: None if arch[0] == 3 else -float(sum(arch)), 500)
    assert len(archs) == len(set(archs)) == 500


@every_controller
def test_a_space_too_large_to_list_repeats_when_it_has_to(make: Make) -> None:
    """20,736 index tuples that mean two models."""
    space = Space(grid(4, 12).choices, lambda values: {name: int(values["c0"]) // 6 * 11 for name in values})
    archs = drive(make(space, 0), lambda arch: float(sum(arch)), 12)
    assert len(archs) == 12
    assert len(set(archs)) == 2


@every_controller
def test_asks_of_many_are_asks_of_one(make: Make) -> None:
    space = grid(4, 4)
    one, many = make(space, 5), make(space, 5)
    for _ in range(4):
        archs = list(many.ask(7))
        assert archs == [arch for _ in range(7) for arch in one.ask(1)]
        for controller in (one, many):
            controller.tell([Outcome(i, arch, "ok", -float(sum(arch))) for i, arch in enumerate(archs)])


# Random search


def test_random_is_uniform() -> None:
    """Chi-squared with 26 degrees of freedom: over 63 in one of 15,000 runs."""
    space = grid(3, 3)
    count = Counter(RandomSearch(space, seed).ask(1)[0] for seed in range(5400))
    assert len(count) == 27
    assert sum((n - 200) ** 2 / 200 for n in count.values()) < 63


def test_what_is_left_of_a_small_space_is_drawn_uniformly() -> None:
    """Three of 4,096 points are left, which guessing would seldom hit; each within 5 standard deviations of 1/3."""
    space = grid(6, 4)
    left = [(0, 0, 0, 0, 0, 0), (1, 2, 3, 0, 1, 2), (3, 3, 3, 3, 3, 3)]
    points = [tuple((i // 4**k) % 4 for k in range(6)) for i in range(4096)]
    source = Fresh(space, 0)
    given = [list(point) for point in points if point not in left]
    count: Counter[Arch | None] = Counter()
    for seed in range(300):
        source.load_state_dict({**Fresh(space, seed).state_dict(), "given": given})
        count[source.draw()] += 1
    assert set(count) == set(left)
    assert all(abs(n - 100) < 5 * math.sqrt(300 * 2 / 9) for n in count.values())


# Evolution

WIDE = grid(30, 20)  # 570 neighbours a point


def warmed(values: list[float | None], **params: int) -> tuple[RegularizedEvolution, list[Arch]]:
    """A controller that was told one outcome a value, and the points they belong to."""
    controller = RegularizedEvolution(WIDE, 0, **params)
    archs = list(controller.ask(len(values)))
    for i, (arch, value) in enumerate(zip(archs, values, strict=True)):
        tell(controller, arch, value, i)
    return controller, archs


def parents(controller: Controller, archs: list[Arch], n: int) -> Counter[int]:
    """How many of n proposals are neighbours of each point."""
    found: Counter[int] = Counter()
    for child in controller.ask(n):
        (parent,) = [i for i, arch in enumerate(archs) if distance(arch, child) == 1]
        found[parent] += 1
    return found


@pytest.mark.parametrize("sample", [1, 2, 5])
def test_tournaments_have_the_odds_of_the_paper(sample: int) -> None:
    """Of P = 4, drawn S times with replacement, the i-th best wins with ((5 - i) / 4)^S - ((4 - i) / 4)^S.

    Each within 4.5 standard deviations: a false alarm in 12,000 seeds for the twelve of them.
    """
    controller, archs = warmed([4.0, 1.0, 3.0, 2.0], population=4, sample=sample)
    count = parents(controller, archs, 300)
    for rank, parent in enumerate([0, 2, 3, 1], start=1):
        odds = ((5 - rank) / 4) ** sample - ((4 - rank) / 4) ** sample
        assert abs(count[parent] - 300 * odds) <= 4.5 * math.sqrt(300 * odds * (1 - odds))


def test_every_choice_mutates_as_often_and_to_every_other_option() -> None:
    """Chi-squared with 29 degrees of freedom: over 70 in one of 30,000 runs."""
    controller, (parent,) = warmed([1.0], population=1, sample=1)
    children = controller.ask(300)
    count = Counter(next(k for k in range(30) if child[k] != parent[k]) for child in children)
    assert sum((count[k] - 10) ** 2 / 10 for k in range(30)) < 70
    assert {option for child in children for option in child} == set(range(20))


def test_choices_of_one_option_never_mutate() -> None:
    space = Space((Choice("fixed", ("x",)), *grid(3, 4).choices, Choice("also", ("y",))))
    controller = RegularizedEvolution(space, 0, population=1, sample=1)
    (parent,) = controller.ask(1)
    tell(controller, parent, 1.0)
    assert all(distance(parent, child) == 1 for child in controller.ask(9)), "all nine neighbours"


def test_the_first_proposals_are_uniform() -> None:
    controller = RegularizedEvolution(WIDE, 0, population=10)
    archs = drive(controller, lambda arch: 1.0, 10, lag=1)
    assert all(distance(a, b) > 1 for a in archs for b in archs if a is not b)
    tell(controller, archs[-1], 1.0)
    (child,) = controller.ask(1)
    assert min(distance(arch, child) for arch in archs) == 1


def test_the_best_dies_of_age() -> None:
    controller, archs = warmed([9.0, 1.0, 1.0], population=3, sample=50)
    assert parents(controller, archs, 20) == {0: 20}
    (young,) = controller.ask(1)
    tell(controller, young, 1.0)
    assert 0 not in parents(controller, [*archs, young], 1)


def test_failures_are_no_parents_but_age_the_others() -> None:
    controller, archs = warmed([None, 1.0, None], population=3, sample=5)
    assert parents(controller, archs, 20) == {1: 20}
    for _ in range(2):
        tell(controller, controller.ask(1)[0], None)
    (child,) = controller.ask(1)
    assert min(distance(arch, child) for arch in archs) > 1, "only failures are left: uniform again"


def test_no_outcomes_yet_means_uniform() -> None:
    archs = RegularizedEvolution(WIDE, 0, population=2).ask(20)
    assert min(distance(a, b) for a in archs for b in archs if a is not b) > 1


def test_when_all_mutations_are_known_points_are_uniform() -> None:
    controller, _ = warmed([1.0], population=1, sample=1)
    archs = controller.ask(620)
    assert len(set(archs)) == 620, "570 neighbours, and others"


@pytest.mark.parametrize("params", [{"population": 0}, {"sample": 0}])
def test_evolution_refuses_what_makes_no_sense(params: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1, got"):
        RegularizedEvolution(WIDE, 0, **params)


# Local search


def test_a_climb_starts_from_the_best_start() -> None:
    controller = LocalSearch(WIDE, 0, starts=3)
    archs = list(controller.ask(3))
    for arch, value in zip(archs, [1.0, 3.0, 2.0], strict=True):
        tell(controller, arch, value)
    assert all(distance(archs[1], child) == 1 for child in controller.ask(50))


def test_failed_starts_do_not_count() -> None:
    controller = LocalSearch(WIDE, 0, starts=2)
    archs = list(controller.ask(3))
    for arch, value in zip(archs, [1.0, None, 0.5], strict=True):
        assert min(distance(arch, child) for child in controller.ask(3)) > 1
        tell(controller, arch, value)
    assert distance(archs[0], controller.ask(1)[0]) == 1


def test_a_climb_moves_to_the_first_that_is_better() -> None:
    controller = LocalSearch(WIDE, 0, starts=1)
    (here,) = controller.ask(1)
    tell(controller, here, 1.0)
    for value in (0.5, 1.0, None):  # worse, no better, failed
        (child,) = controller.ask(1)
        tell(controller, child, value)
        assert distance(here, controller.ask(1)[0]) == 1
    (better,) = controller.ask(1)
    tell(controller, better, 1.1)
    assert all(distance(better, child) == 1 for child in controller.ask(30))


def test_a_better_point_counts_however_late_it_is_told() -> None:
    controller = LocalSearch(WIDE, 0, starts=1)
    (here,) = controller.ask(1)
    tell(controller, here, 1.0)
    early, late = controller.ask(2)
    tell(controller, early, 2.0)
    assert distance(early, controller.ask(1)[0]) == 1
    tell(controller, late, 3.0)  # a neighbour of the point that was left
    assert distance(late, controller.ask(1)[0]) == 1


def test_neighbours_come_in_random_order() -> None:
    """The mean position of 200 of 570 neighbours is 14.5 if they come at random, within 5 standard errors."""
    controller = LocalSearch(WIDE, 0, starts=1)
    (here,) = controller.ask(1)
    tell(controller, here, 1.0)
    changed = [next(k for k in range(30) if child[k] != here[k]) for child in controller.ask(200)]
    assert abs(statistics.mean(changed) - 14.5) < 5 * 8.66 / math.sqrt(200)


def test_an_optimum_ends_the_climb_when_all_its_neighbours_were_told() -> None:
    space = grid(20, 2)
    controller = LocalSearch(space, 0, starts=2)
    first = list(controller.ask(2))
    tell(controller, first[0], 1.0)
    tell(controller, first[1], 0.0)
    around = controller.ask(20)
    assert {distance(first[0], child) for child in around} == {1}
    gap = controller.ask(3)  # nothing told yet: starts of the next climb
    assert min(distance(first[0], point) for point in gap) > 1
    for point, value in zip(gap, [0.2, 0.9, 0.5], strict=True):
        tell(controller, point, value)
    assert min(distance(point, controller.ask(1)[0]) for point in gap) > 1, "this climb is not over"
    for child in around[:-1]:
        tell(controller, child, 0.0)
    tell(controller, around[-1], None)
    assert distance(gap[1], controller.ask(1)[0]) == 1, "the next climb starts from the best of the gap"


def test_the_last_neighbour_can_still_be_better() -> None:
    controller = LocalSearch(grid(20, 2), 0, starts=1)
    (here,) = controller.ask(1)
    tell(controller, here, 1.0)
    around = controller.ask(20)
    (gap,) = controller.ask(1)
    for child in around[:-1]:
        tell(controller, child, 0.0)
    tell(controller, gap, 0.5)
    tell(controller, around[-1], 2.0)
    assert distance(around[-1], controller.ask(1)[0]) == 1


def test_neighbours_that_were_no_better_start_no_climb() -> None:
    controller = LocalSearch(grid(20, 2), 0, starts=1)
    (here,) = controller.ask(1)
    tell(controller, here, 1.0)
    around = controller.ask(20)
    for child in around:
        tell(controller, child, 0.0)
    (point,) = controller.ask(1)
    assert min(distance(point, child) for child in around) > 1


def test_between_climbs_one_good_point_is_no_start() -> None:
    controller = LocalSearch(grid(20, 2), 0, starts=2)
    for arch, value in zip(controller.ask(2), [1.0, 0.0], strict=True):
        tell(controller, arch, value)
    for child in controller.ask(20):
        tell(controller, child, 0.0)
    (good,) = controller.ask(1)
    tell(controller, good, 9.0)
    (second,) = controller.ask(1)
    assert distance(good, second) > 1
    tell(controller, second, 0.0)
    assert distance(good, controller.ask(1)[0]) == 1


def test_local_search_finds_the_top_of_one_hill() -> None:
    space, top = grid(8, 4), (3, 0, 2, 1, 1, 0, 3, 2)
    for seed in range(10):
        archs = drive(LocalSearch(space, seed), lambda arch: -float(distance(arch, top)), 250)
        assert top in archs, "of 65,536 points, and 24 neighbours for each of at most 8 steps"


def test_local_search_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        LocalSearch(WIDE, 0, starts=0)


# Are they worth it?


@pytest.mark.parametrize("make", [RegularizedEvolution, LocalSearch])
def test_beats_random(make: Make) -> None:
    """Best of 120 trials in 390,625 points with one known best, outcomes 8 late, noisy, a fifth of them failures.

    40 paired seeds, Student's t above 4: a strategy no better than random gets there in one of 7,000 runs.
    """
    space = grid(8, 5)

    def regret(controller: Controller, seed: int) -> int:
        rng = random.Random(seed)
        top = space.sample(rng)

        def steps(arch: Arch) -> int:
            return sum(abs(x - y) for x, y in zip(arch, top, strict=True))

        def value(arch: Arch) -> float | None:
            return None if sum(arch) % 5 == 0 and arch != top else rng.gauss(-steps(arch), 0.5)

        return min(steps(arch) for arch in drive(controller, value, 120))

    gains = [regret(RandomSearch(space, s), 100 + s) - regret(make(space, s), 100 + s) for s in range(40)]
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    assert statistics.mean(gains) > 4 * error
    assert statistics.mean(gains) > 2, "of the 4.7 steps that random ends away from the best, on average"

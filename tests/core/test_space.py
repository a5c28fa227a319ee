"""The search space and the outcomes of proposals, as data."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoad_core import Arch, Choice, Controller, Outcome, Space
from autoad_core.errors import AutoADError, SpaceError
from autoad_core.space import Option, Rule

no_deadline = settings(deadline=None)  # the machine may be busy


def pooling_rule(values: Mapping[str, Option]) -> Mapping[str, Option]:
    """Under a kernel of 1 the type of pooling does not matter."""
    return {**values, "type": "max"} if values.get("kernel") == 1 else values


SPACE = Space(
    (
        Choice("hypothesis", ("reconstruction", "centroid", "cluster")),
        Choice("clusters", (2, 4, 8), when=("hypothesis", ("cluster",))),
        Choice("repair", ("split", "drop"), when=("clusters", (4, 8))),
        Choice("rate", (0.5, 1.0)),
        Choice("kernel", (1, 3, 5)),
        Choice("type", ("max", "average")),
    ),
    pooling_rule,
)
POINTS = [tuple(arch) for arch in itertools.product(*(range(len(c.options)) for c in SPACE.choices))]


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Up to five choices of up to four options, some conditional, with and without a rule."""
    choices: list[Choice] = []
    for k in range(draw(st.integers(1, 5))):
        options = tuple(range(draw(st.integers(1, 4))))
        parent = draw(st.sampled_from([None, *choices]))
        when = None
        if parent is not None:
            when = (parent.name, tuple(draw(st.sets(st.sampled_from(parent.options), min_size=1))))
        choices.append(Choice(f"c{k}", options, when))
    parents = {choice.when[0] for choice in choices if choice.when}
    leaves = [choice.name for choice in choices if choice.name not in parents]
    name = draw(st.sampled_from([None, *leaves]))
    return Space(tuple(choices), None if name is None else first_option(name))


def first_option(name: str) -> Rule:
    """All options of one choice mean the same."""
    return lambda values: {**values, name: 0} if name in values else values


@st.composite
def points(draw: st.DrawFn) -> tuple[Space, Arch]:
    space = draw(spaces())
    return space, tuple(draw(st.integers(0, len(c.options) - 1)) for c in space.choices)


# Choices


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ((), "'k' has no options"),
        ((1, None), "options must be str, int or float"),
        ((True, False), "options must be str, int or float"),
        (((1, 2),), "options must be str, int or float"),
        (("a", "b", "a"), "'k' repeats an option"),
    ],
)
def test_choices_refuse_what_is_no_option(options: tuple[Any, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Choice("k", options)


def test_choices_and_spaces_are_values() -> None:
    assert Choice("k", (1, "a", 0.5)) == Choice("k", (1, "a", 0.5))
    assert hash(Space((Choice("k", (1, 2)),))) == hash(Space((Choice("k", (1, 2)),)))
    assert Space((Choice("k", (1, 2)),)) != Space((Choice("k", (2, 1)),))
    with pytest.raises(AttributeError):
        SPACE.choices = ()  # type: ignore[misc]


# Spaces


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ((Choice("a", (1,)), Choice("a", (2,))), "two choices are called 'a'"),
        (
            (Choice("a", (1,), when=("b", (1,))), Choice("b", (1,))),
            "'a' depends on 'b', which is not before it",
        ),
        ((Choice("a", (1,), when=("a", (1,))),), "'a' depends on 'a', which is not before it"),
        ((Choice("a", (1,)), Choice("b", (1,), when=("a", (1, 3)))), r"'b': 'a' has no option \['3'\]"),
    ],
)
def test_spaces_refuse_impossible_choices(choices: tuple[Choice, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Space(choices)


def test_size_counts_index_tuples() -> None:
    assert SPACE.size == 3 * 3 * 2 * 2 * 3 * 2 == len(POINTS)
    assert Space(()).size == 1


@pytest.mark.parametrize("layers", [1, 3, 6])
def test_size_of_the_published_space(layers: int) -> None:
    """6N + 2 choices; exact, where a float would round (Li et al., AutoAD, IV-A)."""
    choices = [Choice("hypothesis", (1, 2, 3, 4)), Choice("distance", (1, 2, 3, 4))]
    for k in range(layers):
        choices += [Choice(f"{k}.{j}", tuple(range(n))) for j, n in enumerate((7, 4, 2, 4, 3, 8))]
    assert Space(tuple(choices)).size == 4 * 4 * (7 * 4 * 2 * 4 * 3 * 8) ** layers


def test_decode_names_what_is_active() -> None:
    assert SPACE.decode((0, 2, 1, 0, 1, 1)) == {
        "hypothesis": "reconstruction", "rate": 0.5, "kernel": 3, "type": "average",
    }  # fmt: skip
    assert SPACE.decode((2, 1, 1, 1, 0, 1)) == {
        "hypothesis": "cluster", "clusters": 4, "repair": "drop", "rate": 1.0, "kernel": 1, "type": "max",
    }  # fmt: skip
    assert "repair" not in SPACE.decode((2, 0, 1, 0, 0, 0)), "its parent has another value"


def test_a_child_of_an_inactive_choice_is_inactive() -> None:
    assert not {"clusters", "repair"} & set(SPACE.decode((0, 2, 1, 0, 0, 0)))


@pytest.mark.parametrize(
    ("arch", "match"),
    [
        ((0, 0), "has 6 choices here, got 2"),
        ((0,) * 7, "has 6 choices here, got 7"),
        ((3, 0, 0, 0, 0, 0), r"hypothesis: index 3 is outside 0\.\.2"),
        ((0, 0, 0, 0, -1, 0), r"kernel: index -1 is outside 0\.\.2"),
    ],
)
def test_decode_refuses_what_is_outside(arch: Arch, match: str) -> None:
    with pytest.raises(SpaceError, match=match):
        SPACE.decode(arch)


def test_indices_of_inactive_choices_do_not_matter() -> None:
    assert SPACE.canonical((0, 99, -7, 0, 1, 0)) == (0, 0, 0, 0, 1, 0)


VALUES: dict[str, Option] = {"hypothesis": "centroid", "rate": 1.0, "kernel": 3, "type": "max"}


def test_encode_takes_names_in_any_order() -> None:
    assert SPACE.encode(dict(reversed(VALUES.items()))) == (1, 0, 0, 1, 1, 0)


def test_encode_takes_the_rule_into_account() -> None:
    assert SPACE.encode({**VALUES, "kernel": 1, "type": "average"}) == (1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kernels": 3}, "kernels: the space has no such choice"),
        ({"kernel": 2}, "kernel: 2 is not one of 1, 3, 5"),
        ({"kernel": "3"}, "kernel: '3' is not one of 1, 3, 5"),
        ({"hypothesis": "cluster"}, "clusters: no value given"),
        ({"hypothesis": "cluster", "clusters": 3}, "clusters: 3 is not one of 2, 4, 8"),
    ],
)
def test_encode_refuses_what_is_outside(change: dict[str, Option], match: str) -> None:
    with pytest.raises(SpaceError, match=match):
        SPACE.encode({**VALUES, **change})


def test_encode_refuses_what_is_missing() -> None:
    with pytest.raises(SpaceError, match="rate: no value given"):
        SPACE.encode({name: value for name, value in VALUES.items() if name != "rate"})


def test_encode_checks_values_before_the_rule_sees_them() -> None:
    """A rule is written for the values of a point, and need not bear what a user may have typed."""
    space = Space((Choice("kernel", (1, 3)),), lambda values: {"kernel": values["kernel"]})
    with pytest.raises(SpaceError, match="kernel: no value given"):
        space.encode({})


def test_a_user_sees_one_line() -> None:
    assert issubclass(SpaceError, AutoADError)


@no_deadline
@given(points())
def test_encode_undoes_decode(case: tuple[Space, Arch]) -> None:
    space, arch = case
    canonical = space.canonical(arch)
    assert space.encode(space.decode(arch)) == canonical
    assert space.canonical(canonical) == canonical
    assert space.decode(canonical) == space.decode(arch)


@no_deadline
@given(points())
def test_equal_values_are_equal_tuples(case: tuple[Space, Arch]) -> None:
    """Canonical tuples and decoded values stand for each other one to one."""
    space, arch = case
    for other in itertools.product(*(range(len(c.options)) for c in space.choices)):
        same_values = space.decode(other) == space.decode(arch)
        assert (space.canonical(other) == space.canonical(arch)) == same_values


def test_the_canonical_points_by_hand() -> None:
    """(2 + 1 + 2 * 2 hypotheses with their choices) * 2 rates * (1 + 2 * 2 poolings)."""
    assert len({SPACE.canonical(arch) for arch in POINTS}) == 7 * 2 * 5


def test_points_survive_json() -> None:
    arch = SPACE.canonical((2, 1, 1, 1, 2, 1))
    assert SPACE.encode(json.loads(json.dumps(SPACE.decode(arch)))) == arch
    assert SPACE.canonical(tuple(json.loads(json.dumps(arch)))) == arch


# Samples


@no_deadline
@given(spaces(), st.integers(0, 2**32))
def test_samples_are_canonical_and_seeded(space: Space, seed: int) -> None:
    random.seed(seed + 1)
    before = random.getstate()
    arch = space.sample(random.Random(seed))
    assert space.canonical(arch) == arch
    assert arch == space.sample(random.Random(seed))
    assert random.getstate() == before, "the global generator is not touched"


def test_samples_are_uniform_over_index_tuples() -> None:
    """Each canonical point as often as it has tuples, within 5 standard deviations.

    70 points: a false alarm for one seed in 20,000.
    """
    n, rng = 20_000, random.Random(0)
    count = Counter(SPACE.sample(rng) for _ in range(n))
    for arch, tuples in Counter(map(SPACE.canonical, POINTS)).items():
        p = tuples / SPACE.size
        assert abs(count[arch] - n * p) < 5 * math.sqrt(n * p * (1 - p))


# Neighbours


@no_deadline
@given(points())
def test_neighbours_by_brute_force(case: tuple[Space, Arch]) -> None:
    space, arch = case
    here = space.canonical(arch)
    changed = {
        space.canonical((*here[:k], i, *here[k + 1 :]))
        for k, choice in enumerate(space.choices)
        for i in range(len(choice.options))
    }
    found = list(space.neighbours(arch))
    assert len(found) == len(set(found)), "none comes twice"
    assert set(found) == changed - {here}


def test_neighbours_by_hand() -> None:
    # Kernel 1: the type does not matter. Centroid: nothing else does. 2 hypotheses, 1 rate, 2 kernels.
    assert set(SPACE.neighbours((1, 2, 1, 0, 0, 1))) == {
        (0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 2, 0),
    }  # fmt: skip


def test_every_point_can_be_reached_through_neighbours() -> None:
    start = SPACE.canonical(POINTS[0])
    seen, todo = {start}, [start]
    while todo:
        new = set(SPACE.neighbours(todo.pop())) - seen
        seen |= new
        todo += new
    assert seen == {SPACE.canonical(arch) for arch in POINTS}


# Outcomes and controllers


@pytest.mark.parametrize(
    ("status", "value"),
    [("ok", 0.5), ("ok", -3.0), ("failed", None), ("skipped", None), ("pruned", None)],
)
def test_outcomes_that_make_sense(status: Any, value: float | None) -> None:
    outcome = Outcome(3, (0, 1), status, value, cost=2.5)
    assert (outcome.status, outcome.value, outcome.cost) == (status, value, 2.5)


@pytest.mark.parametrize(
    ("status", "value"),
    [
        ("ok", None),
        ("ok", math.nan),
        ("ok", math.inf),
        ("ok", -math.inf),
        ("failed", 0.5),
        ("skipped", 0.0),
        ("pruned", math.nan),
    ],
)
def test_outcomes_that_do_not(status: Any, value: float | None) -> None:
    with pytest.raises(ValueError, match=rf"outcome 3: status '{status}' with value {value}"):
        Outcome(3, (0, 1), status, value)


def test_any_object_with_the_methods_is_a_controller() -> None:
    class Fixed:
        def ask(self, n: int) -> list[Arch]:
            return []

        def tell(self, outcomes: Any) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    assert isinstance(Fixed(), Controller)
    assert not isinstance(object(), Controller)

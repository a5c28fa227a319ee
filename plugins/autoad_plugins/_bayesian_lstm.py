"""The controller of the AutoAD paper: curiosity-guided search by a Bayesian LSTM, with self-imitation.

Li et al., IEEE TNNLS 2022, sections IV-B, IV-C and V-C, algorithm 1. Which method follows which equation:

| what | where | equations |
|---|---|---|
| children share weights | the engine, where `search.weight_sharing` says so: `autoad_core.sharing` | 3 |
| REINFORCE with a baseline | `BayesianLstm.surrogate` | 4, 5 |
| curiosity as an intrinsic reward | `BayesianLstm.gains` | 6, 7 |
| weights as distributions, free energy | `BayesianLstm._learn`, `_bayes.kl_to_prior` | 10, 11, 12 |
| posterior sharpening | `_bayes.sharpened` | 13, 14, 15, 16, 17 |
| self-imitation from the best architectures | `BayesianLstm.imitation` | 18, 19 |
| the best K of a batch feed the next one | `BayesianLstm._remember` | figure 1 |

Where the paper is silent:

- D of eq. 14 to 16 is the batch of action sequences just evaluated, and ``-log p(D | .)`` the surrogate of eq. 5. Lines
  10 and 12 of algorithm 1 are then one step.
- The gain of eq. 7 is divided by the mean of the last ten batches' medians, or eta would mean another thing in every space.
- A trial without a reward, failed or too dear, counts as the worst reward so far.
- The controller acts by one draw of its weights a batch, eq. 9 by a sample of one.
- "The best K" feed back the mean of their last outputs, added to the first input of the next sequences. Outcomes come late, so
  every sequence is learned from under the input that it was sampled under.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from autoad_core.controller import Outcome
from autoad_core.errors import shown
from autoad_core.space import Arch, Space
from autoad_plugins import _bayes
from autoad_plugins._policy import Network, Policy
from autoad_plugins._random import Fresh


@dataclass(frozen=True, slots=True)
class Settings:
    """The switches.

    Attributes:
        batch: n of eq. 5 and M of figure 1: outcomes that make an update.
        top: K of figure 1, at most ``batch``; 0 for none.
        hidden: Units of each of the two LSTM layers.
        temperature: Divides the logits.
        tanh: Bounds them, 0 for no bound.
        learning_rate: Of Adam.
        spread: Initial weights are uniform in ``[-spread, spread]``.
        bayesian: Weights are distributions; False is plain REINFORCE, without sharpening and curiosity, which need them.
        deviation: Initial standard deviation of each weight.
        sharpening: Draw weights by eq. 14.
        sharpening_rate: Initial eta of eq. 14, learned for each weight.
        sharpening_deviation: sigma of eq. 14.
        sequences: C of eq. 16: the KL to the prior is divided by it.
        curiosity: eta of eq. 7; 0 for none.
        replay: How many of the best architectures are kept for eq. 19; 0 for none.
        replay_steps: Steps of eq. 19 after each batch.
        baseline: Memory of the moving average b; ``b <- baseline b + (1 - baseline) mean(r)``.
        baseline_at_zero: Start it at zero, not at the first batch's mean.
        repeats: Propose architectures again.
    """

    batch: int = 8
    top: int = 4
    hidden: int = 50
    temperature: float = 5.0
    tanh: float = 2.5
    learning_rate: float = 3e-2
    spread: float = 0.1
    bayesian: bool = True
    deviation: float = 0.01
    sharpening: bool = True
    sharpening_rate: float = 1e-3
    sharpening_deviation: float = 0.01
    sequences: float = 1e6
    curiosity: float = 0.01
    replay: int = 10
    replay_steps: int = 4
    baseline: float = 0.8
    baseline_at_zero: bool = False
    repeats: bool = False


PRESETS = {
    "default": Settings(),
    "paper": Settings(learning_rate=3.5e-4, replay_steps=1, baseline_at_zero=True, repeats=True),
}
MEDIANS = 10  # batches whose medians scale the gain


class BayesianLstm:
    """See the module.

    Args:
        space: Where to search.
        seed: Of all randomness.
        preset: ``default``, larger and more steps and no repeats, tuned for 200 trials; or ``paper``, section V-C.
        switches: Attributes of `Settings`, which win over the preset.

    Raises:
        ValueError: An unknown preset or switch, or a value outside its range.
    """

    def __init__(self, space: Space, seed: int, preset: str = "default", **switches: Any) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        known = {f.name for f in fields(Settings)}
        if unknown := sorted(set(switches) - known):
            raise ValueError(f"no switch {unknown[0]!r}; known: {', '.join(sorted(known))}")
        self.settings = s = _checked(replace(PRESETS[preset], **switches))
        self._space = space
        self.policy = Policy(space, Network(s.hidden, 2, s.temperature, s.tanh or None))
        self._fresh = Fresh(space, seed)
        self._generator = torch.Generator().manual_seed(seed)
        d = self.policy.size
        start = torch.rand(d, generator=self._generator) * 2 * s.spread - s.spread
        self.mu = nn.Parameter(start)
        self.rho = nn.Parameter(torch.full((d,), _bayes.inverse_softplus(s.deviation)))
        self.rates = nn.Parameter(torch.full((d,), _bayes.inverse_softplus(s.sharpening_rate)))
        self._optimizer = torch.optim.Adam([self.mu, self.rho, self.rates], lr=s.learning_rate)
        start_at = 0.0 if s.baseline_at_zero else None
        self._baseline: float | None = start_at  # of the rewards
        self._usual_gain: float | None = start_at  # the part of the baseline that curiosity's addition has
        self._worst: float | None = None
        self._medians: deque[float] = deque(maxlen=MEDIANS)
        self._memory = torch.zeros(s.hidden)  # what the best of the last batch feed back
        self._queue: list[Arch] = []  # sampled, not proposed yet; as chosen, not canonical
        self._asked: dict[Arch, _Sequence] = {}  # by canonical architecture
        self._batch: list[tuple[_Sequence, float | None]] = []
        self._best: dict[Arch, tuple[float, Arch]] = {}  # by canonical architecture; the replay buffer

    def ask(self, n: int) -> Sequence[Arch]:
        """See `autoad_core.controller.Controller.ask`."""
        return list(islice(iter(self._propose, None), n))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """See `autoad_core.controller.Controller.tell`. Every ``batch`` outcomes make an update."""
        for outcome in outcomes:
            sequence = self._asked.get(outcome.arch, _Sequence(outcome.arch, self._memory))
            self._batch.append((sequence, outcome.value))
            if outcome.value is not None:
                self._store(outcome.arch, sequence.chosen, outcome.value)
            if len(self._batch) == self.settings.batch:
                self._learn()

    def surrogate(
        self, theta: Tensor, actions: Tensor, advantages: Tensor, memory: Tensor | None = None
    ) -> Tensor:
        """``-log p(D | theta)`` of eq. 14 to 16: the loss whose gradient is that of eq. 5, with its sign for descent.

        Args:
            theta: (d,) weights.
            actions: (n, T).
            advantages: (n, T), ``r_new(a_t) - b``; nothing is divided by their spread, which would cancel the reward.
            memory: As for `Policy.log_probs`.
        """
        return -(advantages * self.policy.log_probs(theta, actions, memory)).sum(1).mean()

    def imitation(self, theta: Tensor, actions: Tensor, rewards: Tensor, baseline: float) -> Tensor:
        """The loss of eq. 19: ``-log pi`` of good old sequences (n, T), weighed by ``(r - b)+``, (n,)."""
        weights = (rewards - baseline).clamp(min=0)
        return -(weights * self.policy.log_probs(theta, actions, self._memory).sum(1)).mean()

    def gains(self, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """(n, T), the information gain of each action about the weights (eq. 6), in nats.

        How far one step of the learning rate on ``-log P(a_t | a_1:t-1)`` moves the posterior: with g its gradient at mu,
        ``KL[N(mu - rate sigma^2 g, sigma^2) || N(mu, sigma^2)] = 1/2 rate^2 sum(sigma^2 g^2)`` [Houthooft et al. 2016,
        eq. 12: the step along the natural gradient].
        """
        with torch.no_grad():
            variance = _bayes.deviation(self.rho).square()
            squares = self.policy.squared_gradients(self.mu, actions, variance, memory)
            return 0.5 * self.settings.learning_rate**2 * squares

    def state_dict(self) -> dict[str, Any]:
        """JSON values and tensors."""
        moments = {
            str(i): {k: torch.as_tensor(v).clone() for k, v in s.items()}
            for i, s in self._optimizer.state_dict()["state"].items()
        }
        return {
            "fresh": self._fresh.state_dict(),
            "generator": self._generator.get_state(),
            "weights": [w.detach().clone() for w in self._weights],
            "moments": moments,
            "baseline": [self._baseline, self._usual_gain],
            "worst": self._worst,
            "medians": list(self._medians),
            "memory": self._memory.clone(),
            "queue": [list(a) for a in self._queue],
            "asked": [[list(a), list(s.chosen)] for a, s in self._asked.items()],
            "asked_memory": self._stacked(list(self._asked.values())),
            "batch": [[list(s.chosen), value] for s, value in self._batch],
            "batch_memory": self._stacked([s for s, _ in self._batch]),
            "best": [[list(a), value, list(b)] for a, (value, b) in self._best.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        self._fresh.load_state_dict(state["fresh"])
        self._generator.set_state(state["generator"])
        with torch.no_grad():
            for weight, saved in zip(self._weights, state["weights"], strict=True):
                weight.copy_(saved)
        groups = self._optimizer.state_dict()["param_groups"]
        moments = {int(i): {k: v.clone() for k, v in s.items()} for i, s in state["moments"].items()}
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        (self._baseline, self._usual_gain), self._worst = state["baseline"], state["worst"]
        self._medians = deque(state["medians"], MEDIANS)
        self._memory = state["memory"].clone()
        self._queue = [tuple(a) for a in state["queue"]]
        asked = zip(state["asked"], state["asked_memory"], strict=True)
        self._asked = {tuple(a): _Sequence(tuple(b), memory.clone()) for (a, b), memory in asked}
        batch = zip(state["batch"], state["batch_memory"], strict=True)
        self._batch = [(_Sequence(tuple(a), memory.clone()), value) for (a, value), memory in batch]
        self._best = {tuple(a): (value, tuple(b)) for a, value, b in state["best"]}

    @property
    def _weights(self) -> list[nn.Parameter]:
        return [self.mu, self.rho, self.rates]

    def _propose(self) -> Arch | None:
        if self.settings.repeats:
            return self._sampled()
        return self._fresh.draw(self._sampled)

    def _sampled(self) -> Arch:
        """The next of the sequences that one draw of the weights gave; canonical."""
        if not self._queue:
            theta = self._draw().detach()
            actions = self.policy.sample(theta, self.settings.batch, self._generator, self._memory)
            self._queue = self.policy.archs(actions)[::-1]
        chosen = self._queue.pop()
        arch = self._space.canonical(chosen)
        self._asked[arch] = _Sequence(chosen, self._memory)
        return arch

    def _stacked(self, sequences: list[_Sequence]) -> Tensor:
        """(n, hidden), their memories."""
        return torch.stack([torch.zeros_like(self._memory), *(s.memory for s in sequences)])[1:]

    def _draw(self) -> Tensor:
        """phi of eq. 10, differentiable in mu and rho; mu itself where weights are no distributions."""
        if not self.settings.bayesian:
            return self.mu
        return self.mu + _bayes.deviation(self.rho) * self._noise()

    def _noise(self) -> Tensor:
        return torch.randn(self.policy.size, generator=self._generator)

    def _store(self, arch: Arch, chosen: Arch, value: float) -> None:
        """Keep the best distinct architectures."""
        if arch not in self._best or value > self._best[arch][0]:
            self._best[arch] = (value, chosen)
        if len(self._best) > self.settings.replay:
            del self._best[min(self._best, key=lambda a: self._best[a][0])]

    def _learn(self) -> None:
        """Lines 10 to 21 of algorithm 1, on a full batch."""
        sequences, rewards = self._rewards()
        self._batch.clear()
        self._queue.clear()
        if rewards is None or not self.policy.steps:
            return
        actions, memory = self.policy.actions([s.chosen for s in sequences]), self._stacked(sequences)
        mean = float(rewards.mean())
        baseline = mean if self._baseline is None else self._baseline
        advantages = rewards[:, None] - baseline + self._curiosity(actions, memory)
        self._step(self._explore(actions, advantages, memory))
        for _ in range(self.settings.replay_steps if self._best else 0):
            self._step(self._imitate(baseline))
        self._baseline = self._moved(baseline, mean)
        self._remember(actions, rewards, memory)

    def _rewards(self) -> tuple[list[_Sequence], Tensor | None]:
        """The batch's sequences and rewards (n,); None while nothing was ever rewarded."""
        values = [v for _, v in self._batch if v is not None]
        if values:
            self._worst = min(values) if self._worst is None else min(self._worst, *values)
        sequences = [s for s, _ in self._batch]
        if self._worst is None:
            return sequences, None
        return sequences, torch.tensor([self._worst if v is None else v for _, v in self._batch])

    def _curiosity(self, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """(n, T), what eq. 7 adds to the reward, less its own moving average: b of eq. 5 is that of r_new."""
        eta = self.settings.curiosity
        if not (eta and self.settings.bayesian):
            return torch.zeros(actions.shape)
        gains, exists = self.gains(actions, memory), self.policy.active(actions)
        self._medians.append(float(gains[exists].median()))
        scale = statistics.fmean(self._medians)
        if not scale > 0:
            return torch.zeros_like(gains)
        added = eta * gains / scale
        mean = float(added[exists].mean())
        usual = mean if self._usual_gain is None else self._usual_gain
        self._usual_gain = self._moved(usual, mean)
        return (added - usual) * exists

    def _moved(self, average: float, value: float) -> float:
        decay = self.settings.baseline
        return decay * average + (1 - decay) * value

    def _explore(self, actions: Tensor, advantages: Tensor, memory: Tensor) -> Tensor:
        """The loss of eq. 16, or eq. 11 without sharpening, or the surrogate alone."""
        s = self.settings

        def loss(theta: Tensor) -> Tensor:
            return self.surrogate(theta, actions, advantages, memory)

        phi = self._draw()
        if not s.bayesian:
            return loss(phi)
        prior = _bayes.kl_to_prior(phi, self.mu, _bayes.deviation(self.rho), _bayes.ScaleMixture())
        if not s.sharpening:
            return loss(phi) + prior / s.sequences
        rates = _bayes.deviation(self.rates)
        theta, moved = _bayes.sharpened(loss, phi, rates, s.sharpening_deviation, self._noise())
        return loss(theta) + moved + prior / s.sequences

    def _imitate(self, baseline: float) -> Tensor:
        """Eq. 19 on a mini-batch of the best."""
        best = list(self._best.values())
        count = min(self.settings.batch, len(best))
        rows = torch.randperm(len(best), generator=self._generator)[:count].tolist()
        rewards = torch.tensor([best[i][0] for i in rows])
        return self.imitation(
            self._draw(), self.policy.actions([best[i][1] for i in rows]), rewards, baseline
        )

    def _step(self, loss: Tensor) -> None:
        """Descend; a step whose gradient overflowed, as wild settings make it, is left out."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if all(w.grad is None or bool(torch.isfinite(w.grad).all()) for w in self._weights):
            self._optimizer.step()

    def _remember(self, actions: Tensor, rewards: Tensor, memory: Tensor) -> None:
        """Figure 1: the mean last output of the batch's best K sequences is added to the next batch's first input."""
        if self.settings.top:
            best = rewards.topk(min(self.settings.top, len(rewards))).indices
            self._memory = self.policy.outputs(self.mu.detach(), actions[best], memory[best]).mean(0)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """An architecture as it was chosen, not canonical, and (hidden,) the memory that it was sampled under."""

    chosen: Arch
    memory: Tensor


def _checked(settings: Settings) -> Settings:
    """Raises ValueError for a switch of another type or outside its range."""
    for field in fields(settings):
        value, kind = getattr(settings, field.name), type(getattr(PRESETS["default"], field.name))
        known = (int, float) if kind is float else (kind,)
        if not isinstance(value, known) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{field.name} must be {kind.__name__}, got {shown(value)}")
        if kind is float and not math.isfinite(value):
            raise ValueError(f"{field.name} must be finite, got {value}")
    least = {
        "batch": 1,
        "hidden": 1,
        "top": 0,
        "replay": 0,
        "replay_steps": 1,
        "tanh": 0,
        "curiosity": 0,
        "spread": 0,
    }
    for name, low in least.items():
        if getattr(settings, name) < low:
            raise ValueError(f"{name} must be at least {low}, got {getattr(settings, name)}")
    for name in (
        "temperature",
        "learning_rate",
        "deviation",
        "sharpening_rate",
        "sharpening_deviation",
        "sequences",
    ):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(settings, name)}")
    if not 0 <= settings.baseline <= 1:
        raise ValueError(f"baseline must be from 0 to 1, got {settings.baseline}")
    return settings

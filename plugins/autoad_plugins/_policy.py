"""The controller's network: a recurrent policy over the choices of a space, as a function of one flat vector of weights.

Li et al., V-C: two LSTM layers of 50 units; logits divided by a temperature and bounded by ``c * tanh``. The weights are
one vector so that a distribution over them, and steps of them, are plain vector arithmetic. Choices with a single option
take no step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core.space import Arch, Space

_NEVER = -1e9  # a logit whose option is not of this step; finite, so that second derivatives are


@dataclass(frozen=True, slots=True)
class Network:
    """Sizes of the network.

    Attributes:
        hidden: Units of each LSTM layer, and length of the embeddings.
        layers: LSTM layers.
        temperature: Divides the logits.
        tanh: Then they are bounded by ``tanh * tanh(logit)``; None for no bound.
    """

    hidden: int = 50
    layers: int = 2
    temperature: float = 5.0
    tanh: float | None = 2.5


class Policy:
    """``P(a_t | a_1:t-1; theta)`` of every step t.

    Args:
        space: Its open choices are the T steps, in order.
        network: Sizes.

    Attributes:
        steps: T.
        size: Length d of ``theta``.
    """

    def __init__(self, space: Space, network: Network) -> None:
        self._space, self._network = space, network
        self._open = list(_open(space))
        counts = [len(space.choices[i].options) for i in self._open]
        self.steps = len(counts)
        total, h = sum(counts), network.hidden
        self._first = torch.tensor([sum(counts[:t]) for t in range(self.steps)], dtype=torch.long)
        owner = torch.repeat_interleave(torch.arange(self.steps), torch.tensor(counts, dtype=torch.long))
        self._mask = torch.where(owner[None] == torch.arange(self.steps)[:, None], 0.0, _NEVER)
        shapes = [("start", (h,)), ("embedding", (total, h)), ("head", (total, h)), ("head_bias", (total,))]
        for layer in range(network.layers):
            shapes += [(f"{layer}.x", (4 * h, h)), (f"{layer}.h", (4 * h, h)), (f"{layer}.b", (4 * h,))]
        self._shapes = shapes
        self.size = sum(math.prod(shape) for _, shape in shapes)
        self._conditions = list(self._find_conditions())

    def actions(self, archs: Sequence[Arch]) -> Tensor:
        """(B, T) option indices of architectures."""
        return torch.tensor([[arch[i] for i in self._open] for arch in archs], dtype=torch.long).reshape(
            len(archs), self.steps
        )

    def archs(self, actions: Tensor) -> list[Arch]:
        """The architectures of (B, T) actions, as they were chosen: not canonical."""
        out = []
        for row in actions.tolist():
            arch = [0] * len(self._space.choices)
            for position, action in zip(self._open, row, strict=True):
                arch[position] = action
            out.append(tuple(arch))
        return out

    def active(self, actions: Tensor) -> Tensor:
        """(B, T) bool: whether a step's choice exists, given those before it."""
        found = torch.ones_like(actions, dtype=torch.bool)
        for step, parent, allowed in self._conditions:
            found[:, step] = torch.isin(actions[:, parent], allowed) & found[:, parent]
        return found

    def log_probs(self, theta: Tensor, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """(B, T), log P of each action given those before it; 0 where the choice does not exist.

        Args:
            theta: (d,).
            actions: (B, T).
            memory: (hidden,) or (B, hidden), added to the first input: what the last iteration left behind.
        """
        return self._chosen(theta, actions, memory) * self.active(actions)

    def squared_gradients(
        self, theta: Tensor, actions: Tensor, scale: Tensor, memory: Tensor | None = None
    ) -> Tensor:
        """(B, T), ``sum_i scale_i g_i^2`` with g the gradient of ``-log P`` of each action by theta; 0 where it has no choice.

        Backpropagation through time by hand, for all actions of all sequences at once, where automatic differentiation
        would take a pass for each action. No gradient of a weight matrix is made: with ``g = sum_s d_s x_s'`` over steps s,
        ``sum_kh S_kh g_kh^2 = sum_sr sum_k d_sk d_rk (sum_h S_kh x_sh x_rh)``.

        Args:
            theta: (d,).
            actions: (B, T).
            scale: (d,).
            memory: As for `log_probs`.
        """
        with torch.no_grad():
            weights, scales = self._unpack(theta), self._unpack(scale)
            trace: list[_Trace] = []
            out = self._hidden(weights, actions, memory, trace)
            shaped = self._shaped(out @ weights["head"].T + weights["head_bias"])
            error = torch.softmax(shaped + self._mask, 2)
            error.scatter_add_(2, (actions + self._first)[..., None], torch.full((*actions.shape, 1), -1.0))
            error = error * self._slope(shaped) * self.active(actions)[..., None]
            by_head = (error.square() @ scales["head"] * out.square()).sum(2)
            found = by_head + error.square() @ scales["head_bias"]
            # Of the loss of action t by the output of step s: (B, T, T, hidden).
            by_output = torch.diag_embed((error @ weights["head"]).transpose(1, 2)).permute(0, 2, 3, 1)
            for layer in reversed(range(self._network.layers)):
                swept = trace[layer]
                gates = _through_time(by_output, swept, weights[f"{layer}.h"])
                before, one = F.pad(swept.h, (0, 0, 1, -1)), torch.ones(*actions.shape, 1)
                inputs = torch.cat([swept.x, before, one], 2).transpose(1, 2)
                pairs = (inputs[..., None] * inputs[:, :, None]).flatten(2)  # (B, inputs, T * T)
                by_input = [scales[f"{layer}.x"], scales[f"{layer}.h"], scales[f"{layer}.b"][:, None]]
                weighed = (torch.cat(by_input, 1) @ pairs).unflatten(2, (self.steps, self.steps))
                by_gate = gates.permute(0, 3, 1, 2)
                found += (by_gate @ weighed).mul_(by_gate).sum((1, 3))
                by_output = gates @ weights[f"{layer}.x"]
            squares = by_output.square()
            rows = scales["embedding"][
                (actions + self._first)[:, :-1]
            ]  # no row twice: every step has its own
            return (
                found + squares[:, :, 0] @ scales["start"] + (squares[:, :, 1:] * rows[:, None]).sum((2, 3))
            )

    def outputs(self, theta: Tensor, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """(B, hidden), the network's last output after each of the sequences (B, T)."""
        with torch.no_grad():
            return self._hidden(self._unpack(theta), actions, memory)[:, -1]

    def sample(
        self, theta: Tensor, count: int, generator: torch.Generator, memory: Tensor | None = None
    ) -> Tensor:
        """Actions (count, T), index 0 where a choice does not exist."""
        with torch.no_grad():
            weights = self._unpack(theta)
            state = self._rest(count)
            actions = torch.zeros(count, self.steps, dtype=torch.long)
            x = self._start(weights, memory).expand(count, -1)
            for t in range(self.steps):
                out, state = self._step(weights, x, state)
                logits = self._shaped(out @ weights["head"].T + weights["head_bias"]) + self._mask[t]
                noise = -torch.empty_like(logits).exponential_(generator=generator).log()
                actions[:, t] = (logits + noise).argmax(1) - self._first[t]
                actions[:, t] *= self.active(actions)[:, t]
                x = weights["embedding"][actions[:, t] + self._first[t]]
        return actions

    def _chosen(self, theta: Tensor, actions: Tensor, memory: Tensor | None) -> Tensor:
        """(B, T), log P of each action, whether or not its choice exists."""
        return self._logits(theta, actions, memory).gather(2, (actions + self._first)[..., None])[..., 0]

    def _logits(self, theta: Tensor, actions: Tensor, memory: Tensor | None) -> Tensor:
        """(B, T, all options), normalized within each step."""
        weights = self._unpack(theta)
        out = self._hidden(weights, actions, memory)
        logits = self._shaped(out @ weights["head"].T + weights["head_bias"])
        return F.log_softmax(logits + self._mask, 2)

    def _hidden(
        self,
        weights: dict[str, Tensor],
        actions: Tensor,
        memory: Tensor | None,
        trace: list[_Trace] | None = None,
    ) -> Tensor:
        """(B, T, hidden), outputs of the last layer; what happened on the way is added to ``trace``."""
        x = weights["embedding"][(actions + self._first)[:, :-1]]
        out = torch.cat([self._start(weights, memory).expand(len(actions), -1)[:, None], x], 1)
        for layer in range(self._network.layers):
            swept = self._sweep(weights, layer, out)
            if trace is not None:
                trace.append(swept)
            out = swept.h
        return out

    def _sweep(self, weights: dict[str, Tensor], layer: int, x: Tensor) -> _Trace:
        """One LSTM layer over (B, T, hidden) inputs."""
        inputs = x @ weights[f"{layer}.x"].T + weights[f"{layer}.b"]
        recurrent = weights[f"{layer}.h"].T
        h = c = x.new_zeros(len(x), self._network.hidden)
        every: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(x.shape[1]):
            gates = inputs[:, t] + h @ recurrent
            h, c = _cell(gates, c)
            every.append((h, c, gates))
        return _Trace(x, *(torch.stack(part, 1) for part in zip(*every, strict=True)))

    def _step(
        self, weights: dict[str, Tensor], x: Tensor, state: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """All layers at one step: input (B, hidden) to output (B, hidden)."""
        after = []
        for layer, (h, c) in enumerate(state):
            gates = x @ weights[f"{layer}.x"].T + weights[f"{layer}.b"] + h @ weights[f"{layer}.h"].T
            x, c = _cell(gates, c)
            after.append((x, c))
        return x, after

    def _rest(self, count: int) -> list[tuple[Tensor, Tensor]]:
        zero = torch.zeros(count, self._network.hidden)
        return [(zero, zero)] * self._network.layers

    def _start(self, weights: dict[str, Tensor], memory: Tensor | None) -> Tensor:
        return weights["start"] if memory is None else weights["start"] + memory

    def _shaped(self, logits: Tensor) -> Tensor:
        scaled, bound = logits / self._network.temperature, self._network.tanh
        return scaled if bound is None else bound * torch.tanh(scaled)

    def _slope(self, shaped: Tensor) -> Tensor:
        """The derivative of `_shaped`, from its value."""
        bound = self._network.tanh
        inner = torch.ones_like(shaped) if bound is None else bound * (1 - (shaped / bound) ** 2)
        return inner / self._network.temperature

    def _unpack(self, theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split([math.prod(shape) for _, shape in self._shapes])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes, parts, strict=True)}

    def _find_conditions(self) -> Sequence[tuple[int, int, Tensor]]:
        """(step, step of the choice that it depends on, option indices that it needs) of each conditional choice."""
        by_name = {choice.name: i for i, choice in enumerate(self._space.choices)}
        found = []
        for step, position in enumerate(self._open):
            when = self._space.choices[position].when
            # A condition on a choice that is fixed always holds where that choice exists, so its own condition counts.
            while when is not None and by_name[when[0]] not in self._open:
                when = self._space.choices[by_name[when[0]]].when
            if when is None:
                continue
            parent = self._space.choices[by_name[when[0]]]
            allowed = [i for i, option in enumerate(parent.options) if option in when[1]]
            found.append((step, self._open.index(by_name[when[0]]), torch.tensor(allowed)))
        return found


@dataclass(frozen=True, slots=True)
class _Trace:
    """What one LSTM layer did over T steps, each (B, T, ...): inputs, outputs, cell states, gates before nonlinearities."""

    x: Tensor
    h: Tensor
    c: Tensor
    gates: Tensor


def _through_time(by_output: Tensor, trace: _Trace, recurrent: Tensor) -> Tensor:
    """(B, T, T, 4 hidden), derivatives of T losses by a layer's gates at each step, from those by its outputs.

    Args:
        by_output: (B, T, T, hidden), of loss t by the output of step s.
        trace: The layer's.
        recurrent: (4 hidden, hidden), its weights from step to step.
    """
    i, f, g, o = trace.gates.chunk(4, 2)
    i, f, g, o, c = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o), torch.tanh(trace.c)
    before = F.pad(trace.c, (0, 0, 1, -1))
    # Of the gates by the cell state, and of the cell state by the output.
    by_cell = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g**2)], 2)
    by_o, to_cell = c * o * (1 - o), o * (1 - c**2)
    out = torch.empty(*by_output.shape[:3], 4, by_output.shape[3])
    h = cell = torch.zeros_like(by_output[:, :, 0])
    for s in reversed(range(by_output.shape[2])):
        h = h + by_output[:, :, s]
        cell = cell + h * to_cell[:, None, s]
        gates = out[:, :, s]
        gates[:, :, :3] = cell[:, :, None] * by_cell[:, None, s]
        gates[:, :, 3] = h * by_o[:, None, s]
        h, cell = gates.flatten(2) @ recurrent, cell * f[:, None, s]
    return out.flatten(3)


def _open(space: Space) -> Iterator[int]:
    """Positions of the choices that leave something to choose."""
    fixed = {c.name: c.options[0] for c in space.choices if len(c.options) == 1}
    for i, choice in enumerate(space.choices):
        never = choice.when is not None and fixed.get(choice.when[0], choice.when[1][0]) not in choice.when[1]
        if len(choice.options) > 1 and not never:
            yield i


def _cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Output and cell state (B, hidden) of an LSTM from its gates (B, 4 * hidden) before their nonlinearities."""
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c

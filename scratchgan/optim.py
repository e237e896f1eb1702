"""Optimisers: SGD, RMSprop and Adam with PyTorch's updates, operation by operation; the moving average EMA.

Parameters are updated in place. The work is cut into pieces of at most `PIECE` elements, so that the dozen
passes of an update run in the processor's cache, and the pieces are shared out among worker threads. Every
element is treated alike, so cuts change no bit. On a GPU a group's parameters move into one arena (`arena.py`),
and one launch updates them all.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from scratchgan import backend, inplace, precision
from scratchgan.arena import Arena, gathered, suits
from scratchgan.backend import xp
from scratchgan.errors import UserError
from scratchgan.kernels import updates
from scratchgan.nn.module import Module, as_array, overwrite, zero_grad
from scratchgan.ops import passes
from scratchgan.recording import enable_grad
from scratchgan.tape import fed, only_eager, settled
from scratchgan.tensor import Tensor

PIECE = 1 << 16             # elements: a piece's arrays stay in the cache, and a thread is busy for a while
WORTH_THREADS = 1 << 17     # elements below which handing work to a thread costs more than it saves

Rule = Callable[..., None]


class Optimizer:
    """Parameter groups, their state, the step. A subclass names its averages and gives the rule for a piece.

    `params` is an iterable of tensors, or of groups: dicts {"params": tensors, setting: value, ...}. Settings
    may be changed between steps in `param_groups`.
    """
    counts_steps = True         # whether PyTorch's state has an entry "step"

    def __init__(self, params: Iterable, **defaults):
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}       # {"step": int, average's name: array}
        # Of "p", "g" and the averages, by group and number of updates.
        self._arenas: dict[tuple[int, int], dict[str, Arena]] = {}
        params = [params] if isinstance(params, Tensor) else list(params)
        if not params:
            raise ValueError(f"{type(self).__name__}: params is empty: expected tensors or groups of tensors")
        for group in params if isinstance(params[0], dict) else [{"params": params}]:
            self.add_param_group(group)

    def averages(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The arrays that this group keeps for each parameter, under PyTorch's names."""
        raise NotImplementedError

    def rule(self, group: dict[str, Any], step: int) -> Rule:
        """The function `rule(g, u, t, *averages)` of step number `step`, counted from 1, on one piece.

        It reads the gradient g, moves the averages, and leaves in u what is to be added to the parameters; t
        is scratch memory.
        """
        raise NotImplementedError

    def together(self, group: dict[str, Any], clock, lr, p, g, averages: list, found) -> None:
        """A step on arenas, in one launch: p, the gradient g, the averages in their order; `clock`, `lr` and
        `found` as arrays. Where that is not None and not 0, nothing moves."""
        raise NotImplementedError

    def clock(self, group: dict[str, Any], step: int) -> tuple[float, float, float]:
        """Of step number `step` what `kernels.updates` wants to know: the number and Adam's corrections."""
        return step, 1, 1

    def check(self, group: dict[str, Any]) -> None:
        """Raise a ValueError for settings out of range."""
        for name in ("lr", "eps", "weight_decay", "momentum", "alpha"):
            if not group.get(name, 0) >= 0:
                raise ValueError(f"{type(self).__name__}: {name} is {group[name]}, expected a number >= 0")

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimise more parameters; settings that the group doesn't name are as in the constructor."""
        name, params = type(self).__name__, group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"{name}: unknown settings {', '.join(sorted(unknown))}, "
                             f"expected some of {', '.join(self.defaults)}")
        taken = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: expected tensors in params, found {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"{name}: only leaf tensors can be optimised, one of {p.shape} was computed")
            if id(p) in taken:
                raise ValueError(f"{name}: a parameter of shape {p.shape} occurs twice in params")
            taken.add(id(p))
        group = {"params": params, **self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or overwrite them with zeros."""
        for group in self.param_groups:
            zero_grad(group["params"], set_to_none)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; none where float16's are not all finite (`precision.py`).
        A closure computes gradients before that, and its loss is handed back.
        """
        if closure is not None:
            with enable_grad():
                loss = closure()
            self.step()
            return loss
        groups = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        scale, gradients = precision.state.scale, [p.grad._array for _, params in groups for p in params]
        found = scale.follow(gradients) if scale is not None and gradients else None
        for number, (group, params) in enumerate(groups):
            if not params:
                continue
            if suits([p._array for p in params]):
                for place, alike in enumerate(self._in_step(params)):
                    self._step_together((number, place), group, alike, found)
            elif found is None or not found:
                self._step_in_pieces(group, params)

    def _in_step(self, params: list[Tensor]) -> list[list[Tensor]]:
        """Those that have been updated equally often together, those that have been most often first."""
        found: dict[int, list[Tensor]] = {}
        for p in params:
            found.setdefault(self.state.get(p, {}).get("step", 0), []).append(p)
        return [found[count] for count in sorted(found, reverse=True)]

    def _step_in_pieces(self, group: dict[str, Any], params: list[Tensor]) -> None:
        only_eager("parameters are updated one by one")
        names, rules, pieces = self.averages(group), {}, []
        for p in params:
            averages = self._averages_of(p, names)
            step = self._count([p], names)
            if step not in rules:
                rules[step] = self.rule(group, step)
            pieces += cut(rules[step], p._array, p.grad._array, averages)
            inplace.wrote(p._array)
        run(pieces, float(group["weight_decay"]), group["maximize"])

    def _step_together(self, place: tuple[int, int], group: dict[str, Any], params: list[Tensor], found) -> None:
        names, arenas = self.averages(group), self._arenas.setdefault(place, {})
        for p in params:
            self._averages_of(p, names)
        arenas["p"] = Arena.of(params, arenas.get("p"))
        arenas["g"] = gathered([p.grad._array for p in params], arenas.get("g"))
        for name in names:
            arrays = [self.state[p][name] for p in params]
            if name not in arenas or not arenas[name].holds(arrays):        # new, or loaded
                arenas[name] = Arena(arrays)
                for p, view in zip(params, arenas[name].views):
                    self.state[p][name] = view
        p = arenas["p"].flat
        clock = fed(lambda: self.clock(group, self._count(params, names)), p, np.float64)
        lr = fed(lambda: (group["lr"],), p, np.float64)
        self.together(group, clock, lr, p, arenas["g"].flat, [arenas[name].flat for name in names], found)
        inplace.wrote(p)
        if found is not None:       # updates that follow in a step that is repeated have counted this one by then
            settled(lambda: self._uncount(params if names and found else ()))

    def _averages_of(self, p: Tensor, names: tuple[str, ...]) -> list:
        """The parameter's averages, which begin at zero."""
        if not names:
            return []
        state = self.state.setdefault(p, {"step": 0})
        for name in names:
            if name not in state:
                state[name] = xp(p._array).zeros_like(p._array)
        return [state[name] for name in names]

    def _count(self, params: list[Tensor], names: tuple[str, ...]) -> int:
        """Count the coming step of parameters that had equally many; returns its number, 1 where no averages
        remember."""
        for p in params if names else ():
            self.state[p]["step"] += 1
        return self.state[params[0]]["step"] if names else 1

    def _uncount(self, params: Iterable[Tensor]) -> None:
        """Forget that these parameters were updated once more."""
        for p in params:
            self.state[p]["step"] -= 1

    # State

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's structure, with arrays that are the optimiser's own, not copies:

        {"state": {parameter: {name: array}}, "param_groups": [{"params": numbers, setting: value}]}.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
            settings = {k: v for k, v in group.items() if k != "params"}
            groups.append({**settings, "params": [numbers[id(p)] for p in group["params"]]})
        state = {numbers[id(p)]: dict(s) for p, s in self.state.items()}
        for s in state.values():
            step = s.pop("step")
            if self.counts_steps:
                s["step"] = np.asarray(step, dtype=np.float32)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy settings and state from a `state_dict`, ours or PyTorch's, for parameters of equal shapes.

        Raises a UserError that says what doesn't fit; the optimiser is then as it was before.
        """
        name = type(self).__name__
        if not {"state", "param_groups"} <= state_dict.keys():
            found = ", ".join(state_dict)
            raise UserError(f"{name}.load_state_dict: expected state and param_groups, found {found}")
        sizes = [len(group["params"]) for group in self.param_groups]
        found = [len(group["params"]) for group in state_dict["param_groups"]]
        if sizes != found:
            raise UserError(f"{name}.load_state_dict: groups of {found} parameters, expected {sizes}")
        groups, state = [], {}
        for own, saved in zip(self.param_groups, state_dict["param_groups"]):
            group = {**own, **{name: value for name, value in saved.items() if name in self.defaults}}
            self.check(group)
            groups.append(group)
            for p, number in zip(own["params"], saved["params"]):
                entry = {k: v for k, v in state_dict["state"].get(number, {}).items() if v is not None}
                if entry:
                    state[p] = self._loaded(p, entry, group, number)
        self.param_groups, self.state = groups, state

    def _loaded(self, p: Tensor, entry: dict[str, Any], group: dict[str, Any], number: int) -> dict[str, Any]:
        names, place = self.averages(group), f"{type(self).__name__}.load_state_dict: parameter {number}"
        expected = {*names, "step"} if self.counts_steps else {*names}
        if entry.keys() != expected:
            raise UserError(f"{place} has {', '.join(sorted(entry))}, expected {', '.join(sorted(expected))}")
        state: dict[str, Any] = {"step": int(as_array(entry["step"])) if self.counts_steps else 1}
        for name in names:
            array = as_array(entry[name])
            if array.shape != p.shape:
                raise UserError(f"{place} has shape {p.shape}, its {name} {tuple(array.shape)}")
            state[name] = xp(p._array).empty_like(p._array)
            overwrite(Tensor(state[name]), array)
        return state


class SGD(Optimizer):
    """p <- p - lr g, or with momentum, where b begins as the first g,

    b <- momentum b + (1 - dampening) g,  p <- p - lr b  (Nesterov: p <- p - lr (g + momentum b)).

    g includes weight_decay p; `maximize` turns the gradient's sign.
    """
    counts_steps = False

    def __init__(self, params: Iterable, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov, maximize=maximize)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")

    def averages(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def together(self, group: dict[str, Any], clock, lr, p, g, averages: list, found) -> None:
        (b,) = averages or (None,)
        updates.sgd(p, g, b, clock, lr, zero=False, found=found,
                    **named(group, "momentum", "dampening", "nesterov", "weight_decay", "maximize"))

    def rule(self, group: dict[str, Any], step: int) -> Rule:
        lr, momentum, dampening = (float(group[name]) for name in ("lr", "momentum", "dampening"))

        def plain(g, u, t):
            xp(g).multiply(g, -lr, out=u)

        def with_momentum(g, u, t, b):
            m = xp(g)
            if step == 1:
                b[...] = g
            else:
                b *= momentum
                b += m.multiply(g, 1 - dampening, out=u)
            if group["nesterov"]:
                m.multiply(b, momentum, out=u)
                u += g
                u *= -lr
            else:
                m.multiply(b, -lr, out=u)

        return with_momentum if momentum else plain


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2,  p <- p - lr g / (sqrt(v) + eps): Tieleman & Hinton 2012, lecture 6e.

    `centered` subtracts from v the square of the average gradient (Graves 2013, arXiv 1308.0850, eq. 38 to
    45). With momentum, b <- momentum b + g / (sqrt(v) + eps)  and  p <- p - lr b. g includes weight_decay p.
    """

    def __init__(self, params: Iterable, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                         centered=centered, maximize=maximize)

    def averages(self, group: dict[str, Any]) -> tuple[str, ...]:
        mean = ("grad_avg",) if group["centered"] else ()
        return ("square_avg", *mean, "momentum_buffer") if group["momentum"] else ("square_avg", *mean)

    def together(self, group: dict[str, Any], clock, lr, p, g, averages: list, found) -> None:
        arenas = dict(zip(self.averages(group), averages))
        updates.rmsprop(p, g, *(arenas.get(name) for name in ("square_avg", "grad_avg", "momentum_buffer")),
                        clock, lr, zero=False, found=found,
                        **named(group, "alpha", "eps", "momentum", "weight_decay", "maximize"))

    def rule(self, group: dict[str, Any], step: int) -> Rule:
        lr, alpha, eps, momentum = (float(group[name]) for name in ("lr", "alpha", "eps", "momentum"))
        centered = group["centered"]

        def rule(g, u, t, v, *more):
            m = xp(g)
            average_square(v, g, alpha, u)
            if centered:
                mean = more[0]
                average(mean, g, 1 - alpha, u)
                m.multiply(mean, mean, out=t)
                m.sqrt(m.subtract(v, t, out=t), out=t)
            else:
                m.sqrt(v, out=t)
            t += eps
            if momentum:
                b = more[-1]
                b *= momentum
                b += m.divide(g, t, out=u)
                m.multiply(b, -lr, out=u)
            else:
                m.multiply(g, -lr, out=u)
                u /= t

        return rule


class Adam(Optimizer):
    """Kingma & Ba 2015 (arXiv 1412.6980), Algorithm 1, in PyTorch's order of operations:

    m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
    p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps).

    `amsgrad` puts the largest v so far in v's place (Reddi et al. 2018). g includes weight_decay p.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                         maximize=maximize)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"Adam: betas are {group['betas']}, expected two numbers >= 0 and < 1")

    def averages(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if group["amsgrad"] else names

    def clock(self, group: dict[str, Any], step: int) -> tuple[float, float, float]:
        beta1, beta2 = group["betas"]
        return step, 1 - beta1**step, (1 - beta2**step) ** 0.5

    def together(self, group: dict[str, Any], clock, lr, p, g, averages: list, found) -> None:
        m, v, *largest = averages
        beta1, beta2 = group["betas"]
        updates.adam(p, g, m, v, *(largest or (None,)), clock, lr, beta1=beta1, beta2=beta2, zero=False, found=found,
                     **named(group, "eps", "weight_decay", "maximize"))

    def rule(self, group: dict[str, Any], step: int) -> Rule:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        step_size = float(group["lr"]) / (1 - beta1**step)
        root_correction = (1 - beta2**step) ** 0.5
        eps = float(group["eps"])

        def rule(g, u, t, mean, v, *largest):
            m = xp(g)
            average(mean, g, 1 - beta1, u)
            average_square(v, g, beta2, t)
            for most in largest:
                v = m.maximum(most, v, out=most)
            m.sqrt(v, out=t)
            t /= root_correction
            t += eps
            m.multiply(mean, -step_size, out=u)
            u /= t

        return rule


def named(group: dict[str, Any], *names: str) -> dict[str, Any]:
    """These settings of a group, as keywords."""
    return {name: group[name] for name in names}


def average(mean, g, weight: float, scratch) -> None:
    """mean <- mean + weight (g - mean), reckoned from the nearer end as `torch.lerp` does."""
    difference = xp(g).subtract(g, mean, out=scratch)
    if weight < 0.5:
        difference *= weight
        mean += difference
    else:
        difference *= weight - 1
        xp(g).add(g, difference, out=mean)


def average_square(v, g, decay: float, scratch) -> None:
    """v <- decay v + (1 - decay) g^2."""
    v *= decay
    square = xp(g).multiply(g, 1 - decay, out=scratch)
    square *= g
    v += square


class Piece(NamedTuple):
    """Some elements of a parameter p, its gradient g and its averages, with the rule that moves them."""
    rule: Rule
    p: Any
    g: Any
    averages: list


def cut(rule: Rule, p, g, averages: list) -> list[Piece]:
    """Pieces of at most `PIECE` elements; device arrays stay whole, as kernels want all of it at once."""
    if p.size <= PIECE or not (backend.on_host(p) and p.flags.c_contiguous):
        return [Piece(rule, p, g, averages)]
    p, g, *averages = (a.reshape(-1) for a in (p, g, *averages))
    line = -passes.address(p) % passes.LINE // p.itemsize       # where the first cache line begins
    spans = [slice(0, line), *(slice(i, i + PIECE) for i in range(line, p.size, PIECE))]
    return [Piece(rule, p[s], g[s], [a[s] for a in averages]) for s in spans]


def run(pieces: list[Piece], weight_decay: float = 0.0, maximize: bool = False) -> None:
    """p <- p + what the rule leaves in u, for every piece; by several threads where there is much to do."""
    def work(part: slice) -> None:
        memory: dict[Any, list] = {}
        for rule, p, g, averages in pieces[part]:
            u, t = scratch(p, memory)
            if maximize:
                g = -g
            if weight_decay:
                g = g + weight_decay * p
            rule(g, u, t, *averages)
            p += u

    if sum(piece.p.size for piece in pieces) >= WORTH_THREADS and backend.on_host(pieces[0].p):
        hands = backend.workers             # large and small pieces are dealt out evenly
        pieces = [piece for i in reversed(range(hands)) for piece in pieces[i::hands]]
        backend.parallel(len(pieces), work)
    else:
        work(slice(None))


def scratch(p, memory: dict) -> list:
    """Two arrays like p. Those for pieces begin with a cache line and serve one piece after the other."""
    if not backend.on_host(p) or p.ndim != 1 or not PIECE // 16 <= p.size <= PIECE:
        return [xp(p).empty_like(p), xp(p).empty_like(p)]
    if p.dtype not in memory:
        memory[p.dtype] = [passes.aligned((PIECE,), p.dtype) for _ in range(2)]
    return [a[:p.size] for a in memory[p.dtype]]


class EMA:
    """The moving average of weights, e <- decay e + (1 - decay) p at each `update`; buffers are copied.

    `module` is a copy in evaluation mode that begins with the module's present weights and whose parameters
    ask for no gradient. With `warmup`, update number t uses min(decay, t / (t + 9)), so that the first
    weights, which are noise, are soon forgotten.
    """

    def __init__(self, module: Module, decay: float = 0.999, warmup: bool = False):
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay is {decay}, expected a number from 0 to 1")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self._weights = list(zip(self.module.parameters(), module.parameters()))
        self._buffers = list(zip(self.module.buffers(), module.buffers()))
        self._arenas: list[Arena | None] = [None, None]     # of the average, and of the present weights

    def update(self) -> None:
        """Let the average follow the module's present weights."""
        pairs = self._in_arenas() or [(e._array, p._array) for e, p in self._weights]
        weight = fed(self._next_weight, pairs[0][0], np.float64) if pairs else self._next_weight()

        def rule(p, u, t, e):
            xp(p).subtract(p, e, out=u)
            u *= weight.astype(u.dtype)

        pieces = []
        for e, p in pairs:
            pieces += cut(rule, e, p, [e])
            inplace.wrote(e)
        run(pieces)
        for e, b in self._buffers:
            overwrite(e, b._array)

    def _next_weight(self) -> np.ndarray:
        """What the present weights count for in the coming update, 1 - decay."""
        self.updates += 1
        return np.asarray(1 - (min(self.decay, self.updates / (self.updates + 9)) if self.warmup else self.decay))

    def _in_arenas(self) -> list[tuple]:
        """The averages and the weights as one pair of arenas, where that is worth it; else nothing."""
        averages, weights = [e for e, _ in self._weights], [p._array for _, p in self._weights]
        if not weights or not suits(weights):
            return []
        average, present = self._arenas = Arena.of(averages, self._arenas[0]), gathered(weights, self._arenas[1])
        return [(average.flat, present.flat)]

    def state_dict(self) -> dict[str, Any]:
        """{"updates": how many there were, "module": the averaged module's `state_dict`}."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over, copied, what `state_dict` gave."""
        if {"updates", "module"} != state_dict.keys():
            found = ", ".join(state_dict)
            raise UserError(f"EMA.load_state_dict: expected updates and module, found {found}")
        self.module.load_state_dict(state_dict["module"])
        self.updates = int(state_dict["updates"])

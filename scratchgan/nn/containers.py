"""Modules that hold modules: in a row, in a list, under names."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_index

from scratchgan.nn.module import Module
from scratchgan.nn.parameter import Parameter
from scratchgan.tensor import Tensor


class _Numbered(Module):
    """Members under the attribute names "0", "1", ...: what the lists below share."""
    member = Module

    def __init__(self, members: Iterable = ()):
        super().__init__()
        self.extend(members)

    def append(self, member):
        """Add at the end; returns self."""
        member, name = self._checked(member), str(len(self))
        if name in self._kinds:             # a slice of a Sequential keeps the names that its members had
            raise ValueError(f"{type(self).__name__}: the name {name!r} is taken: make a new one")
        setattr(self, name, member)
        return self

    def extend(self, members: Iterable):
        for member in members:
            self.append(member)
        return self

    def insert(self, i: int, member):
        """Add before number i; those behind it get new names. Returns self."""
        members = list(self)
        members.insert(as_index(i), self._checked(member))
        return self._renumbered(members)

    def _renumbered(self, members: list):
        for name in self._names():
            delattr(self, name)
        return self.extend(members)

    def _checked(self, member):
        if not isinstance(member, self.member):
            found = type(member).__name__
            raise TypeError(f"{type(self).__name__}: expected a {self.member.__name__}, found {found}")
        return member

    def _names(self) -> list[str]:
        return list(self._kinds)

    def _name(self, i) -> str:
        i = as_index(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"{type(self).__name__}: index {i} is out of range for {len(self)} members")
        return self._names()[i]

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator:
        return iter([getattr(self, name) for name in self._names()])

    def __getitem__(self, i):
        if isinstance(i, slice):
            return type(self)([getattr(self, name) for name in self._names()[i]])
        return getattr(self, self._name(i))

    def __setitem__(self, i: int, member) -> None:
        setattr(self, self._name(i), member)

    def __delitem__(self, i: int | slice) -> None:
        members = list(self)
        del members[i if isinstance(i, slice) else self._names().index(self._name(i))]
        self._renumbered(members)

    def __add__(self, others: Iterable):
        return type(self)().extend([*self, *others])


class ModuleList(_Numbered):
    """A list of modules, called one by one by their owner."""


class ParameterList(_Numbered):
    """A list of parameters; tensors become parameters."""
    member = Parameter

    def _checked(self, member):
        plain = isinstance(member, Tensor) and not isinstance(member, Parameter)
        return super()._checked(Parameter(member) if plain else member)


class Sequential(_Numbered):
    """x -> modules[-1](... modules[0](x)); made from modules or from one mapping of names to modules."""

    def __init__(self, *modules):
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else {}
        super().__init__(() if named else modules)
        for name, module in named.items():
            self.add_module(name, module)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Sequential({name: getattr(self, name) for name in self._names()[i]})
        return super().__getitem__(i)

    def forward(self, input):
        for module in self:
            input = module(input)
        return input


class ModuleDict(Module):
    """Modules under names."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        if name not in self._kinds:
            raise KeyError(f"ModuleDict: no module {name!r}; there are {', '.join(self._kinds)}")
        return getattr(self, name)

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def pop(self, name: str) -> Module:
        """The module of this name, which the dict has no longer."""
        module = self[name]
        del self[name]
        return module

    def __contains__(self, name: str) -> bool:
        return name in self._kinds

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._kinds))

    def keys(self) -> Iterable[str]:
        return list(self._kinds)

    def values(self) -> Iterable[Module]:
        return [getattr(self, name) for name in self._kinds]

    def items(self) -> Iterable[tuple[str, Module]]:
        return [(name, getattr(self, name)) for name in self._kinds]

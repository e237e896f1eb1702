"""The base of layers without weights: one function and its settings.

Such a layer is a dataclass. Its fields are the constructor's arguments and, under the same names, the
function's keyword arguments.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable

from scratchgan.nn.module import Module


class Stateless(Module):
    """`layer(*inputs)` is `function(*inputs, **settings)`.

    A field `inplace` is accepted for PyTorch's sake and not passed on: operations never overwrite their
    inputs.
    """
    function: Callable
    settings: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        fields = inspect.get_annotations(cls)
        # "_: KW_ONLY" is a mark between fields, not a field.
        cls.settings += tuple(name for name in fields if name not in ("inplace", "_"))

    def forward(self, *inputs):
        own = self.__dict__
        return self.function(*inputs, **{name: own[name] for name in self.settings})

    def extra_repr(self) -> str:
        shown = [f"{name}={self.__dict__[name]!r}" for name in self.settings]
        if getattr(self, "inplace", False):
            shown.append("inplace=True")
        return ", ".join(shown)

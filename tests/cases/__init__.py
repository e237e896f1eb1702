"""One table of cases: op, shapes, domains. It drives the tests of values and gradients, those on the device
double, and the benches.
"""

from importlib import import_module
from pkgutil import iter_modules

from tests.cases.case import Case, Input, make_inputs

__all__ = ["CASES", "Case", "Input", "make_inputs"]

CASES: list[Case] = [
    case
    for module in iter_modules(__path__)
    if module.name != "case"
    for case in import_module(f"{__name__}.{module.name}").CASES
]

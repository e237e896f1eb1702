"""Before anything imports Triton: its kernels run in the interpreter, unless the GPU's tests are asked for."""

from __future__ import annotations

import os


def pytest_configure(config) -> None:
    if config.option.markexpr != "gpu":
        os.environ["TRITON_INTERPRET"] = "1"

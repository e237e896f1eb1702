from __future__ import annotations

import pytest

from scratchgan.kernels import dispatch
from tests.kernels.harness import ON


@pytest.fixture(params=ON)
def by_triton(request, monkeypatch) -> str:
    """A device on which all is Triton's that can be: "cuda", or "cpu" in the interpreter, where host arrays go where
    those of a GPU would."""
    if request.param == "interpreter":
        monkeypatch.setattr(dispatch, "on_gpu", lambda array: True)
    return "cpu" if request.param == "interpreter" else "cuda"

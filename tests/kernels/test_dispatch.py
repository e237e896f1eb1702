"""Which implementation runs is never silent: what is demanded in vain is an error that says why."""

from __future__ import annotations

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from scratchgan import inventory
from scratchgan.errors import UserError
from scratchgan.kernels import dispatch
from scratchgan.kernels.bias_act import bias_act
from scratchgan.kernels.dispatch import NotCovered, implementation, kernel, pick

X, B = np.array([[1.0, -1.0]]), np.array([0.5, 0.25])


def counted(monkeypatch, wanted: str) -> list[str]:
    """The names of the implementations of bias_act that ran for one call under `wanted`."""
    calls = []
    monkeypatch.setattr(bias_act, "reference", lambda *a, **k: calls.append("ref"))
    monkeypatch.setitem(bias_act.__dict__, "triton", lambda *a, **k: calls.append("triton"))
    with implementation(wanted):
        bias_act(X, B, 1, "relu", 0.0, 1.0)
    return calls


def test_host_arrays_take_the_reference_unless_triton_is_asked_for(monkeypatch):
    assert counted(monkeypatch, "auto") == ["ref"]
    assert counted(monkeypatch, "ref") == ["ref"]
    assert counted(monkeypatch, "triton") == ["triton"]


def test_a_choice_ends_with_its_block_even_by_an_error():
    before = dispatch.chosen()
    with pytest.raises(ZeroDivisionError), implementation("triton"):
        raise ZeroDivisionError
    assert dispatch.chosen() == before


def test_unknown_choices_are_refused():
    with pytest.raises(UserError, match="'cuda': expected one of auto, ref, triton"), implementation("cuda"):
        pass
    with pytest.raises(UserError, match="'medium': expected 'highest' or 'high'"):
        dispatch.set_float32_matmul_precision("medium")


def test_triton_where_it_cannot_run_says_why(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with implementation("triton"), pytest.raises(UserError, match="host memory, and TRITON_INTERPRET=1"):
        bias_act(X, B, 1, "relu", 0.0, 1.0)

    @kernel(file="nowhere")
    def without(x):
        return x

    dispatch.KERNELS.pop("nowhere.without")
    with implementation("triton"), pytest.raises(UserError, match="there is no Triton implementation"):
        without(X)


def test_what_triton_does_not_cover_goes_to_the_reference_of_a_gpu(monkeypatch):
    def refuses(*args, **kwargs):
        raise NotCovered("complex numbers")

    monkeypatch.setitem(bias_act.__dict__, "triton", refuses)
    monkeypatch.setattr(dispatch, "on_gpu", lambda array: True)
    assert pick(bias_act, X) == "triton"
    np.testing.assert_array_equal(bias_act(X, B, 1, "relu", 0.0, 1.0), [[1.5, 0.0]])
    with implementation("triton"), pytest.raises(UserError, match="bias_act in Triton: complex numbers"):
        bias_act(X, B, 1, "relu", 0.0, 1.0)


def test_info_lists_every_kernel():
    lines = "\n".join(inventory.machine())
    assert "SCRATCHGAN_IMPL=auto" in lines
    for name in ("conv.conv_nhwc", "conv_dx.conv_dx_nhwc", "conv_dw.conv_dw_nhwc", "norm.moments", "upfirdn2d.upfirdn2d"):
        assert f"{name:<36} ref, triton for CuPy arrays" in lines


@pytest.mark.parametrize("value", ["cuda", "triton"])
def test_the_environment_s_choice_in_vain_is_one_line(value):
    environment = {**os.environ, "SCRATCHGAN_IMPL": value, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "scratchgan.cli", "check", "conv2d"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "SCRATCHGAN_IMPL" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_interpreter_is_given_no_bfloat16(monkeypatch):
    monkeypatch.setattr(dispatch, "interpreting", lambda: True)
    brain = X.astype(ml_dtypes.bfloat16)
    with implementation("triton"), pytest.raises(UserError, match="bfloat16's bits"):
        bias_act(brain, B, 1, "relu", 0.0, 1.0)

"""Element-wise functions and their derivatives.

Binary functions broadcast; their VJPs answer in the shape of the result, and the engine sums over what was
repeated. At a kink the derivative is PyTorch's: |x|' = relu'(x) = 0 at 0, a tie of two arguments gives half
to each, clamp passes at its bounds.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from scratchgan.autograd import Fused
from scratchgan.backend import on_host, xp
from scratchgan.ops.blocks import in_blocks, times
from scratchgan.ops.dtypes import alike, floating
from scratchgan.tensor import Op, expand_to

Broadcasting = partial(Op, broadcasts=True)


# Arithmetic


@Broadcasting
@in_blocks
def add(a, b):
    """a + b."""
    a, b = alike(a, b)
    return a + b


@Broadcasting
@in_blocks
def sub(a, b):
    """a - b."""
    a, b = alike(a, b)
    return a - b


@Broadcasting
@in_blocks
def mul(a, b):
    """a b."""
    a, b = alike(a, b)
    return a * b


@Broadcasting
@in_blocks
def div(a, b):
    """a / b; integers divide to float32."""
    a, b = alike(a, b)
    return floating(a) / floating(b)


@Op
@in_blocks
def neg(x):
    """-x."""
    return -x


add.vjp(a=lambda g: g, b=lambda g: g)
sub.vjp(a=lambda g: g, b=in_blocks(lambda g: -g))
mul.vjp(a=times(lambda b: b), b=times(lambda a: a))
div.vjp(a=in_blocks(lambda g, b: g / b), b=in_blocks(lambda g, b, out: -g * (out / b)))
neg.vjp(x=in_blocks(lambda g: -g))


@Op
def power_of(x, *, p):
    """x ** p for a number p."""
    return (floating(x) if isinstance(p, float) else x) ** p


@Op
def power_from(x, *, base):
    """base ** x for a number base."""
    return base ** (floating(x) if isinstance(base, float) else x)


@Broadcasting
def power(a, b):
    """a ** b for two arrays."""
    a, b = alike(a, b)
    return a**b


def _power_of_x(g, x, p):
    if p == 2:
        return g * (2 * x)
    return g * (p * power_of(x, p=p - 1)) if p else g * 0


def _log_or_0(base):
    return math.log(base) if base > 0 else 0.0 if base == 0 else math.nan


def _power_a(g, a, b):
    """g b a^(b-1), and 0 where b = 0, whatever a is."""
    return g * where(b == 0, 0, b * power(a, where(b == 0, 1, b - 1)))


def _power_b(g, a, out):
    """g a^b log a, and 0 where a = 0."""
    return g * (out * log(where(a == 0, 1, a)))


power_of.vjp(x=_power_of_x)
power_from.vjp(x=lambda g, out, base: g * (out * _log_or_0(base)))
power.vjp(a=_power_a, b=_power_b)


# Rounding and signs: flat wherever they have a derivative. NumPy's quotients and remainders of floating-point
# numbers come from `fmod`, one number at a time. For float32 and k = floor(a / b) below 2^28, float64 finds the
# same in a quarter of the time. A quotient of such numbers is 2^-24 or more away from any integer but 0 that it
# does not equal, so it is rounded to no other side of one; and k b, of at most 28 + 24 binary digits, is exact.

EXACT = 2.0**28
MANY = 1 << 12  # numbers from which on that takes less time


def _many_float32(a, b) -> bool:
    return on_host(a) and on_host(b) and a.size >= MANY and a.dtype == b.dtype == np.float32


def _floor_in_float64(a, b):
    """a, b and floor(a / b) in float64; for the last None where it is not exact."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        k = a / b
        np.floor(k, out=k)
        exact = max(k.max(initial=0), -k.min(initial=0)) < EXACT and np.isfinite(b).all()
    return a, b, k if exact else None


@in_blocks
def _floor_quotient(a, b):
    return a // b


@in_blocks
def _floor_quotient_float32(a, b):
    k = _floor_in_float64(a, b)[-1]
    return a // b if k is None else k.astype(np.float32)


@in_blocks
def _remainder(a, b):
    return a % b


@in_blocks
def _remainder_float32(a, b):
    a64, b64, k = _floor_in_float64(a, b)
    if k is None:
        return a % b
    k *= b64
    return np.subtract(a64, k, out=k).astype(np.float32)


@Broadcasting
def floor_quotient(a, b):
    """a / b rounded down; of integers an integer."""
    a, b = alike(a, b)
    return (_floor_quotient_float32 if _many_float32(a, b) else _floor_quotient)(a, b)


@Broadcasting
def remainder(a, b):
    """a - b floor(a / b), which has b's sign."""
    a, b = alike(a, b)
    return (_remainder_float32 if _many_float32(a, b) else _remainder)(a, b)


@Broadcasting
@in_blocks
def trunc_quotient(a, b):
    """a / b without its fraction; of integers an integer."""
    a, b = alike(a, b)
    array = a if hasattr(a, "dtype") else b
    if array.dtype.kind == "f":
        return xp(array).trunc(a / b)
    down = a // b
    return down + ((down < 0) & (down * b != a))


@Op
@in_blocks
def sign(x):
    """-1, 0 or 1; NaN for NaN, where PyTorch has 0."""
    return xp(x).sign(x)


@Op
def flat(g):
    """0 in g's shape, whatever g is: the cotangent behind a function that is flat. Nothing flows through it."""
    return expand_to(xp(g).zeros((), dtype=g.dtype), shape=g.shape)


sign.vjp(x=flat)
for quotient in (floor_quotient, trunc_quotient):
    quotient.vjp(a=flat, b=flat)
remainder.vjp(a=lambda g: g, b=lambda g, a, b: -g * floor_quotient(a, b))


# Exponentials, roots, circles


@Op
@in_blocks
def exp(x):
    """e^x."""
    x = floating(x)
    return xp(x).exp(x)


@Op
@in_blocks
def log(x):
    """The natural logarithm."""
    x = floating(x)
    return xp(x).log(x)


@Op
@in_blocks
def log1p(x):
    """log(1 + x), accurate for small x."""
    x = floating(x)
    return xp(x).log1p(x)


@Op
@in_blocks
def sqrt(x):
    """x^(1/2)."""
    x = floating(x)
    return xp(x).sqrt(x)


@Op
@in_blocks
def rsqrt(x):
    """x ** -1/2."""
    x = floating(x)
    return 1 / xp(x).sqrt(x)


@Op
@in_blocks
def sin(x):
    """sin x, of radians."""
    x = floating(x)
    return xp(x).sin(x)


@Op
@in_blocks
def cos(x):
    """cos x, of radians."""
    x = floating(x)
    return xp(x).cos(x)


exp.vjp(x=times(lambda out: out))
log.vjp(x=in_blocks(lambda g, x: g / x))
log1p.vjp(x=in_blocks(lambda g, x: g / (1 + x)))
sqrt.vjp(x=in_blocks(lambda g, out: g / (2 * out)))
rsqrt.vjp(x=times(lambda out: -0.5 * (out * out * out)))
sin.vjp(x=times(lambda x: cos(x)))
cos.vjp(x=times(lambda x: -sin(x)))


# Choices

BY_BITS = 1 << 13  # elements from which on choosing bit by bit beats a branch for each
CLIPPED = 1 << 12  # elements above which `clip` beats `maximum` and `minimum` where one side is a number


@Broadcasting
def where(condition, a, b):
    """a where `condition` holds, b elsewhere."""
    a, b = alike(a, b)
    if on_host(a) and a.size >= BY_BITS and a.dtype.kind == "f":
        return _chosen(a, b, condition)
    return xp(condition).where(condition, a, b)


@in_blocks
def _chosen(a, b, condition):
    """`where`, for float32 and float64 of one shape by bits: NumPy's own branches at every element."""
    integer = {4: np.int32, 8: np.int64}.get(a.itemsize)
    b = np.full_like(a, b) if isinstance(b, (int, float)) else b
    if integer is None or not a.shape == b.shape == condition.shape or b.dtype != a.dtype:
        return np.where(condition, a, b)
    ours, theirs = a.view(integer), b.view(integer)
    return (theirs ^ ((ours ^ theirs) & -condition.astype(integer))).view(a.dtype)


def _max(a, b):
    """The larger of a and b. NumPy's maximum has vector instructions for two arrays only, its clip for numbers too."""
    return a.clip(b, math.inf) if _clips(a, b) else xp(a).maximum(a, b)


def _min(a, b):
    """The smaller of a and b."""
    return a.clip(-math.inf, b) if _clips(a, b) else xp(a).minimum(a, b)


def _clips(a, b) -> bool:
    """Whether `a` is an array large enough for clip, which takes a microsecond to begin, and `b` a number."""
    return on_host(a) and a.size > CLIPPED and isinstance(b, (int, float)) and a.dtype.kind == "f"


@Broadcasting
def maximum(a, b):
    """The larger of a and b; NaN where either is NaN. At ties the cotangent is shared equally."""
    return _max(*alike(a, b))


@Broadcasting
def minimum(a, b):
    """The smaller of a and b; NaN where either is NaN. At ties the cotangent is shared equally."""
    return _min(*alike(a, b))


@Broadcasting
def clamp_min(x, low):
    """max(x, low); at x = low the whole gradient goes to x."""
    return _max(*alike(x, low))


@Broadcasting
def clamp_max(x, high):
    """min(x, high); at x = high the whole gradient goes to x."""
    return _min(*alike(x, high))


@Op
@in_blocks
def clamp_between(x, *, low, high):
    """min(max(x, low), high) for two numbers."""
    return x.clip(low, high)


@Op
@in_blocks
def absolute(x):
    """|x|, with slope 0 at 0."""
    return abs(x)


def _to_winner(g, won, tied):
    return g * won + 0.5 * g * tied


where.vjp(a=lambda g, condition: where(condition, g, 0), b=lambda g, condition: where(condition, 0, g))
maximum.vjp(a=lambda g, a, b: _to_winner(g, a > b, a == b), b=lambda g, a, b: _to_winner(g, a < b, a == b))
minimum.vjp(a=lambda g, a, b: _to_winner(g, a < b, a == b), b=lambda g, a, b: _to_winner(g, a > b, a == b))
clamp_min.vjp(x=lambda g, x, low: g * (x >= low), low=lambda g, x, low: g * (x < low))
clamp_max.vjp(x=lambda g, x, high: g * (x <= high), high=lambda g, x, high: g * (x > high))
clamp_between.vjp(x=times(lambda x, low, high: (x >= low) & (x <= high)))
absolute.vjp(x=times(lambda x: sign(x)))


# Activations. All are finite for any finite x. Selecting with `where` would cost NumPy more than all the rest
# of a formula, so masks are multiplied or compared instead.


@Op
@in_blocks
@np.errstate(over="ignore")  # e^-x may become infinite: its reciprocal is the limit 0
def sigmoid(x):
    """1 / (1 + e^-x), accurate also where it is tiny."""
    x = floating(x)
    e = xp(x).exp(-x)
    e += 1
    return 1 / e


@Op
@in_blocks
def logsigmoid(x):
    """log sigmoid(x) = min(x, 0) - log(1 + e^-|x|)."""
    m = xp(x)
    return _min(x, 0) - m.log1p(m.exp(-abs(x)))


@Op
@in_blocks
def softplus(x, *, beta, threshold):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold."""
    m, z = xp(x), x * beta
    tail = m.log1p(m.exp(-abs(z)))
    tail *= (z <= threshold).astype(x.dtype)
    tail += _max(z, 0)
    return tail if beta == 1 else tail / beta


@Op
@in_blocks
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x)."""
    x = floating(x)
    return xp(x).tanh(x)


@Op
@in_blocks
def relu(x):
    """max(x, 0), with slope 0 at 0."""
    return _max(x, 0)


@Op
@in_blocks
def leaky_relu(x, *, slope):
    """x where x > 0, slope x elsewhere, for 0 <= slope <= 1."""
    return xp(x).maximum(x, slope * x)


@Broadcasting
@in_blocks
def prelu(x, slope):
    """x where x > 0, slope x elsewhere; slope broadcasts to x's shape."""
    return _max(x, 0) + slope * _min(x, 0)


@Op
@in_blocks
def step(x, *, low):
    """1 where x > 0, low elsewhere, for low <= 1: the derivative of a leaky ReLU. It has none itself: nothing is
    computed for a slope of 0.
    """
    positive = (x > 0).astype(x.dtype)
    return _max(positive, low) if low else positive


@Op
@in_blocks
def elu(x, *, alpha):
    """x where x > 0, alpha (e^x - 1) elsewhere."""
    return _max(x, 0) + alpha * xp(x).expm1(_min(x, 0))


def _elu_slope(x, alpha):
    """1 where x > 0, alpha e^x elsewhere."""
    inner = alpha * exp(minimum(x, 0))
    return inner if alpha == 1 else inner + (1 - alpha) * step(x, low=0)


@Op
@in_blocks
def silu(x):
    """x sigmoid(x)."""
    return x * sigmoid(x)


def _silu_slope(x, out):
    s = sigmoid(x)
    return s + out * (1 - s)


sigmoid.vjp(x=times(lambda out: out * (1 - out)))
logsigmoid.vjp(x=times(lambda x: sigmoid(-x)))
softplus.vjp(x=times(lambda x, beta, threshold: maximum(sigmoid(beta * x), beta * x > threshold)))
tanh.vjp(x=times(lambda out: 1 - out * out))
relu.vjp(x=times(lambda out: out > 0))
leaky_relu.vjp(x=times(lambda out, slope: step(out, low=slope)))
prelu.vjp(
    x=times(lambda x, slope: slope + (1 - slope) * step(x, low=0)),
    slope=times(lambda x: minimum(x, 0)),
)
elu.vjp(x=times(_elu_slope))
silu.vjp(x=times(_silu_slope))


# The normal distribution's share in GELU

# W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of Computation 23 (1969):
# quotients of polynomials, highest power first, for erf(x) / x in x^2 on |x| <= 0.46875 and for e^(x^2)
# erfc(x) in x above.
ERF_SMALL = (
    (
        1.85777706184603153e-1,
        3.16112374387056560,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
ERFC_LARGE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)


# In float32 erf(x) = tanh(x P(x^2)) with this P, highest power first: least squares of our own, reweighted
# until the largest errors, relative to erf, were alike (1e-7).
ERF_FLOAT32 = (
    1.4211968682995486e-07,
    -5.67345923068438e-06,
    8.767003136634552e-05,
    -6.198783114388401e-04,
    -1.9171332109100365e-04,
    1.0276899949032078e-01,
    1.128379281090167,
)


def _horner(coefficients: tuple[float, ...], x):
    """The polynomial with these coefficients, highest power first."""
    y = coefficients[0] * x
    for c in coefficients[1:-1]:
        y += c
        y *= x
    y += coefficients[-1]
    return y


@Op
@in_blocks
def erf(x):
    """The error function 2/sqrt(pi) int_0^x e^(-t^2) dt, within 1e-15; within 5e-7 in float32."""
    x = floating(x)
    m = xp(x)
    if x.dtype == np.float32:
        with np.errstate(over="ignore"):  # far out the polynomial is infinite, and erf 1
            return m.tanh(x * _horner(ERF_FLOAT32, x * x))
    size = m.minimum(abs(x), 6)  # erf(6) is 1 in float64
    square, (p, q), (r, s) = size * size, ERF_SMALL, ERFC_LARGE
    near = m.copysign(size, x) * (_horner(p, square) / _horner(q, square))
    far = m.copysign(1 - m.exp(-square) * (_horner(r, size) / _horner(s, size)), x)
    return near * (size <= 0.46875) + far * (size > 0.46875)


erf.vjp(x=times(lambda x: (2 / math.sqrt(math.pi)) * exp(-(x * x))))


def _cdf(x):
    """The probability that a standard normal variable is below x."""
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def _density(x):
    return exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))


@Fused
def gelu(x):
    """x times the probability that a standard normal variable is below x.

    That probability is most of the work, so the fast path keeps it for backward.
    """
    return x * _cdf(x)


@in_blocks
def _gelu_x(g, x, cdf):
    return g * (cdf + x * _density(x))


def _gelu(x):
    cdf = in_blocks(_cdf)(x)
    return mul(x, cdf), cdf


gelu.fast(_gelu, lambda g, cdf, need, x: [_gelu_x(g, x, cdf)])


def _tanh_argument(x):
    return x * (math.sqrt(2 / math.pi) * (1 + 0.044715 * (x * x)))


@Op
@in_blocks
def gelu_tanh(x):
    """GELU with its probability replaced by (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2."""
    return 0.5 * x * (1 + tanh(_tanh_argument(x)))


def _gelu_tanh_slope(x):
    t = tanh(_tanh_argument(x))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x))
    return 0.5 * (1 + t + x * slope * (1 - t * t))


gelu_tanh.vjp(x=times(_gelu_tanh_slope))


# Comparisons and logic: no derivative


@Op
def eq(a, b):
    """a == b."""
    return a == b


@Op
def ne(a, b):
    """a != b."""
    return a != b


@Op
def lt(a, b):
    """a < b."""
    return a < b


@Op
def le(a, b):
    """a <= b."""
    return a <= b


@Op
def gt(a, b):
    """a > b."""
    return a > b


@Op
def ge(a, b):
    """a >= b."""
    return a >= b


@Op
def bitwise_and(a, b):
    """a and b, bit by bit; of booleans the logical and."""
    return a & b


@Op
def bitwise_or(a, b):
    """a or b, bit by bit; of booleans the logical or."""
    return a | b


@Op
def bitwise_not(x):
    """Every bit of x turned; of booleans the logical not."""
    return ~x


@Op
def isfinite(x):
    """Where x is neither infinite nor NaN."""
    return xp(x).isfinite(x)


@Op
def isnan(x):
    """Where x is NaN."""
    return xp(x).isnan(x)

"""Array-level implementations of the hot paths: functions of arrays, no Tensor, no graph.

Each file holds one family: the mathematics, the NumPy/CuPy reference and, beside it, faster implementations of the same function.
"""

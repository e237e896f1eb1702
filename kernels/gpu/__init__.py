"""Triton implementations of the kernels, one file per family, with the functions of `kernels/NAME.py`.

Only `scratchgan.kernels.dispatch` imports from here, and only what it runs: Triton is not needed elsewhere.
Every file opens with the formula, the layout, the tiling, the bytes and FLOPs, and the kernel's history.

Names are the same in all files: N images, C channels of x of H rows and W columns, K channels of y of P rows and Q
columns, kernels of R rows and S columns. A name in capitals is a constant of the compiled kernel or a pointer;
tiles are BLOCK_x wide.
"""

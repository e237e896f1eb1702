"""Package metadata. `kernels/` is installed as scratchgan.kernels: the name `kernels` is taken on PyPI."""
from pathlib import Path

from setuptools import find_packages, setup

# On Linux torch 2.13.0 from PyPI asks for just this triton; builds for the CPU alone ask for none.
TEST = ["torch==2.13.0", "triton==3.7.1; platform_system=='Linux'", "ml_dtypes>=0.4", "pytest>=8",
        "pytest-benchmark>=4", "hypothesis>=6", "scipy>=1.11",
        "scikit-learn>=1.4", "scikit-image>=0.22", "prdc==0.2", "torchmetrics==1.9.0", "tensorboard>=2.17"]

setup(
    name="scratchgan",
    version="0.1.0",
    description="Generative adversarial networks from scratch: the mathematics, the gradients, the kernels",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["scratchgan", *(f"scratchgan.{p}" for p in find_packages("scratchgan")), "scratchgan.kernels",
              "scratchgan.kernels.gpu"],
    package_dir={"scratchgan": "scratchgan", "scratchgan.kernels": "kernels"},
    package_data={"scratchgan": ["metrics/weights/*.safetensors", "html_report/page.html", "html_report/page.css",
                                 "html_report/page.js"],
                  "scratchgan.kernels.gpu": ["tuned/*.json"]},
    install_requires=["numpy>=2.0", "pillow>=10", "matplotlib>=3.8", "contourpy>=1.2", "tqdm>=4.65", "safetensors>=0.4.3"],
    extras_require={
        "data": ["mlxtend>=0.23", "scikit-learn>=1.4", "scikit-image>=0.22"],
        "tensorboard": ["tensorboard>=2.17"],       # to look at event files; they are written without it
        "gpu": ["cupy-cuda12x>=13", "triton>=3.6", "ml_dtypes>=0.4"],
        "test": TEST,
    },
    entry_points={"console_scripts": ["scratchgan = scratchgan.cli:main"]},
)

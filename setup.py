"""The packages of the wheel: the code, and the configs at the top of the repository as dalle3_jax.configs."""

from setuptools import find_packages, setup

CONFIGS = {"dalle3_jax.configs": "configs", "dalle3_jax.configs.ablations": "configs/ablations"}

setup(packages=[*find_packages(include=["dalle3_jax*"]), *CONFIGS], package_dir=CONFIGS)

"""What pyproject.toml cannot say: packages are found, and the suites of the top folder ship too."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rocompare*", "baselines*"]), "rocompare.suites"],
    package_dir={"rocompare.suites": "suites"},
)

"""For setuptools, what pyproject.toml cannot say: the extension modules, if there are any."""

from setuptools import setup

from tools import backend

setup(ext_modules=backend.extension_modules)

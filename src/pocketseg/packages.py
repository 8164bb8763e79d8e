"""Packages that only some commands need, asked for before the work begins."""

from __future__ import annotations

from pocketseg.errors import missing_package


def require_torch() -> None:
    """Tell how to install what training needs, where it is not there."""
    for package in ("torch", "accelerate", "safetensors"):
        try:
            __import__(package)
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package(package, "train", error) from error


def require_report() -> None:
    """Tell how to install what draws a training and reports it: before it is trained, not after."""
    for package in ("matplotlib", "jinja2"):
        try:
            __import__(package)
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package(package, "report", error) from error

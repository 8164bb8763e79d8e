"""Packages that only some commands need, asked for before the work begins."""

from __future__ import annotations

from importlib import import_module

from pocketseg.errors import missing_package


def require(extra: str, *packages: str) -> None:
    """Tell how to install packages that are not there.

    Args:
        extra: that brings them.
        packages: their names.

    Raises:
        EnvironmentProblem: one is missing or broken.
    """
    for package in packages:
        try:
            import_module(package)
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package(package, extra, error) from error


def require_torch() -> None:
    """Tell how to install what training needs, where it is not there."""
    require("train", "torch", "accelerate", "safetensors")


def require_report() -> None:
    """Tell how to install what draws a training and reports it: before it is trained, not after."""
    require("report", "matplotlib", "jinja2")

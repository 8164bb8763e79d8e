"""`report`: what runs found, on one page that a reader can trust."""

from pocketseg.flows.report.write import report
from pocketseg.reporting import SUFFIXES

__all__ = ["SUFFIXES", "report"]

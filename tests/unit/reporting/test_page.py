"""The page: one file, nothing fetched, nothing executed that came from a name, readable without pictures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import Panel, Report, StageCurves, Table, write_report
from pocketseg.reporting.charts import best_epoch, curve_chart, groups, histogram, ticks
from pocketseg.reporting.page import LONGEST_SIDE, cells, columns, render
from tests_reporting_samples import history, panel  # isort: skip

"""Numbers that a model file stores, each with its bounds. A bool is not a number, and a text is none either."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Of a side of what a net sees, and of its stride; that of `data.size` in recipes.
MAX_SIDE = 4096
# Far above every intensity, and its square still fits f32.
LARGEST = 1e18

Side = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE)]
Channels = Annotated[int, Field(strict=True, ge=1, le=16)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**31)]
Number = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(strict=True, ge=1 / LARGEST, le=LARGEST)]
Width = Annotated[float, Field(strict=True, ge=0, le=2 * LARGEST)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]

"""Which cases of a data set are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pocketseg.data.case import Case
from pocketseg.errors import DataError


@dataclass(frozen=True)
class Only:
    """Patterns (`sc0[1-8]`, `site1`, `*`) of what to keep; None keeps everything.

    A layout says which site and subject a case has; where it knows no subject, its group or name counts as one.
    """

    subject: tuple[str, ...] | None = None
    site: tuple[str, ...] | None = None
    rater: tuple[str, ...] | None = None

    def of(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that match, with the masks of the raters that match.

        Raises:
            DataError: none does.
        """
        kept = [
            self._of_raters(case)
            for case in cases
            if _matches(case.subject or case.group or case.name, self.subject) and _matches(case.site, self.site)
        ]
        left = [case for case in kept if case is not None]
        if cases and not left:
            given = ", ".join(f"{key} {list(value)}" for key, value in vars(self).items() if value is not None)
            raise DataError("data.only", f"no case matches {given}", _known(cases))
        return left

    def _of_raters(self, case: Case) -> Case | None:
        if self.rater is None:
            return case
        chosen = [index for index, rater in enumerate(case.raters) if _matches(rater, self.rater)]
        if not chosen:
            return None
        return replace(
            case,
            masks=tuple(case.masks[index] for index in chosen),
            raters=tuple(case.raters[index] for index in chosen),
        )


def _matches(value: str | None, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or (value is not None and any(fnmatchcase(value, pattern) for pattern in patterns))


def _known(cases: Sequence[Case]) -> str:
    subjects = sorted({case.subject or case.group or case.name for case in cases})[:5]
    sites = sorted({case.site for case in cases if case.site})[:5]
    raters = sorted({rater for case in cases for rater in case.raters})[:5]
    found = {"subjects": subjects, "sites": sites, "raters": raters}
    return "there are " + "; ".join(f"{key} {', '.join(names)}" for key, names in found.items() if names)

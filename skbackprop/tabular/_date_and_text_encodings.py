"""Encodings of a column as several numbers: dates, times of day and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from ..utils.arrays import Array, DropCachedPropertiesMixin
from ._column_values import SECONDS_A_DAY, is_missing

# The number of hashed n-grams, and the maximum numbers of outputs and of fitted rows.
N_NGRAMS, N_COMPONENTS, MAX_FITTED_TEXTS = 8192, 30, 20_000
# Components with a smaller share of the largest singular value are rounding errors.
_MIN_SINGULAR = 1e-6
_TEXTS_AT_ONCE = 4096


def _cycle(share: Array) -> tuple[Array, Array]:
    """Return the sine and cosine of shares of a period.

    Both are rounded, so that sin(pi) equals sin(0) and constant columns stay constant.
    """
    angle = 2 * np.pi * share
    return np.round(np.sin(angle), 12), np.round(np.cos(angle), 12)


@dataclass(frozen=True)
class DateEncoding:
    """Encoding of a column of dates: parts of the calendar as cycles, and the elapsed time.

    Parameters
    ----------
    label : str
        The name of the column in errors.
    start : int
        The first date of the training table, in microseconds since 1970.
    """

    label: str
    start: int
    suffixes: ClassVar[tuple[str, ...]] = (
        *("_year", "_month_sin", "_month_cos", "_weekday_sin", "_weekday_cos"),
        *("_yearday_sin", "_yearday_cos", "_hour_sin", "_hour_cos", "_elapsed"),
    )

    @classmethod
    def fit(cls, dates: Array, label: str) -> Self:
        """Find the first date."""
        valid_dates = dates[~np.isnat(dates)]
        return cls(label, int(valid_dates.min().astype(np.int64)) if len(valid_dates) else 0)

    def encode(self, dates: Array) -> Array:
        """Return the parts of dates (n,) as a matrix (n, 10), with NaN for missing values.

        Cycles are the sine and cosine of 2 pi times m/12, w/7, d/D and s/86400: m full months and
        d full days of a year of D days, w days since Monday, and s seconds since midnight.
        """
        days, months, years = map(dates.astype, ("M8[D]", "M8[M]", "M8[Y]"))
        day = np.timedelta64(1, "D")
        day_of_year = (days - years.astype("M8[D]")) / day
        n_days = ((years + np.timedelta64(1, "Y")).astype("M8[D]") - years.astype("M8[D]")) / day
        parts = [
            years.astype(np.int64) + 1970,
            *_cycle(months.astype(np.int64) % 12 / 12),
            *_cycle((days.astype(np.int64) + 3) % 7 / 7),
            *_cycle(day_of_year / n_days),
            *_cycle((dates - days) / day),
            (dates.astype(np.int64) - self.start) / (SECONDS_A_DAY * 1e6),
        ]
        matrix = np.column_stack(parts).astype(np.float64, copy=False)
        matrix[np.isnat(dates)] = np.nan
        return matrix


@dataclass(frozen=True)
class TimeEncoding:
    """Encoding of a column of times of day: the hour as a number and as a cycle.

    Parameters
    ----------
    label : str
        The name of the column in errors.
    """

    label: str
    suffixes: ClassVar[tuple[str, ...]] = ("_hour", "_hour_sin", "_hour_cos")

    def encode(self, seconds: Array) -> Array:
        """Return the parts of times (n,), in seconds since midnight, as a matrix (n, 3)."""
        return np.column_stack([seconds / 3600, *_cycle(seconds / SECONDS_A_DAY)])


_VECTORIZER = HashingVectorizer(
    analyzer="char_wb",
    ngram_range=(3, 4),
    n_features=N_NGRAMS,
    alternate_sign=False,
    norm=None,
    dtype=np.float64,
)


@dataclass(frozen=True)
class TextEncoding(DropCachedPropertiesMixin):
    """Encoding of a column of text: a truncated SVD of the tf-idf of hashed character n-grams.

    This is latent semantic analysis (Deerwester et al. 1990) of n-grams within words, which need
    no list of words: texts with a common part, spelled alike, are close.

    Parameters
    ----------
    label : str
        The name of the column in errors.
    hashes : array of int of shape (n_hashes,)
        The hashes of n-grams that occur.
    idf : array of shape (n_hashes,)
        The inverse document frequency of each hash.
    unknown_idf : float
        The inverse document frequency of all other hashes.
    components : array of shape (n_hashes, n_components)
        The right singular vectors.

    References
    ----------
    Deerwester et al., "Indexing by latent semantic analysis", JASIS 41(6), 1990.
    """

    label: str
    hashes: Array
    idf: Array
    unknown_idf: float
    components: Array

    @classmethod
    def fit(cls, values: Sequence[Any], label: str, rng: np.random.RandomState) -> Self:
        """Fit to a column, or to a random part of a very long one."""
        texts = [str(value) for value in values if not is_missing(value)]
        if len(texts) > MAX_FITTED_TEXTS:
            rows = rng.choice(len(texts), MAX_FITTED_TEXTS, replace=False)
            texts = [texts[row] for row in rows]
        n_components = min(N_COMPONENTS, len(texts))
        counts = sparse.csr_array(_VECTORIZER.transform(texts or [""]))
        hashes = np.unique(counts.indices)
        if not len(hashes):
            return cls(label, hashes, np.empty(0), 1.0, np.empty((0, 0), np.float32))
        tfidf = TfidfTransformer().fit(counts)
        svd = TruncatedSVD(n_components, random_state=rng)
        with np.errstate(divide="ignore", invalid="ignore"):  # the variance of a single text is 0
            svd.fit(tfidf.transform(counts))
        is_kept = svd.singular_values_ > _MIN_SINGULAR * svd.singular_values_[0]
        components = svd.components_[is_kept][:, hashes].T.astype(np.float32)
        return cls(label, hashes, tfidf.idf_[hashes], float(tfidf.idf_.max()), components)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffix of the name of each output."""
        return tuple(f"_svd{i}" for i in range(self.components.shape[1]))

    def encode(self, values: Sequence[Any]) -> Array:
        """Return the components of texts, with NaN for missing values; 0 for empty ones."""
        idf, components = self._by_hash
        matrix = np.empty((len(values), components.shape[1]))
        for start in range(0, len(values), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            texts = ["" if is_missing(value) else str(value) for value in values[part]]
            counts = sparse.csr_array(_VECTORIZER.transform(texts))
            counts.data *= idf[counts.indices]
            rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
            norms = np.sqrt(np.bincount(rows, counts.data**2, minlength=len(texts)))
            matrix[part] = (counts @ components) / np.where(norms == 0, 1, norms)[:, np.newaxis]
        matrix[[is_missing(value) for value in values]] = np.nan
        return matrix

    @cached_property
    def _by_hash(self) -> tuple[Array, Array]:
        """The inverse document frequency and components of every hash."""
        idf = np.full(N_NGRAMS, self.unknown_idf)
        components = np.zeros((N_NGRAMS, self.components.shape[1]))
        idf[self.hashes], components[self.hashes] = self.idf, self.components
        return idf, components

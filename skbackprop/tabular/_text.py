"""Strings: which are numbers, dates, text or categories, and the encoding of numbers and text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from ..utils.arrays import Array, DropCachedPropertiesMixin
from ._dates import parse_iso_date
from ._object_values import is_missing

# Digits with or without commas between thousands. Leading zeros are those of codes, not of numbers.
_NUMBER = re.compile(
    r"\s*([+-]?(?!0[\d,])(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"\s*(%?)\s*",
    re.ASCII,
)

# A column of strings is text if it has more distinct values than this, if more than this share of
# its values are distinct, and if these have at least this many words on average.
MIN_TEXTS, MIN_DISTINCT, MIN_WORDS = 30, 0.5, 2.0

# The number of hashed n-grams, the maximum number of outputs, and of rows that these are fitted to.
N_NGRAMS, N_COMPONENTS, MAX_FITTED_TEXTS = 8192, 30, 20_000
# Components with a smaller share of the largest singular value are rounding errors.
_MIN_SINGULAR = 1e-6
_TEXTS_AT_ONCE = 4096


def parse_number(text: str) -> float:
    """Return the number in a string, NaN if there is none; a percentage is divided by 100."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return np.nan
    number = float(found[1].replace(",", ""))
    return number / 100 if found[2] else number


def infer_kind_of_strings(
    values: Sequence[Any],
) -> Literal["numeric_string", "date", "text", "category"]:
    """Return the kind of a column of strings and missing values.

    Blank strings are missing in columns of numbers and dates.
    """
    counts = {value: n for value, n in Counter(values).items() if not is_missing(value)}
    if not all(isinstance(value, str) for value in counts):
        return "category"
    written = [value for value in counts if value and not value.isspace()]
    if written and not any(math.isnan(parse_number(value)) for value in written):
        return "numeric_string"
    if written and all(parse_iso_date(value) is not None for value in written):
        return "date"
    # Text has many distinct values, of several words on average.
    is_text = len(written) > max(MIN_TEXTS, MIN_DISTINCT * sum(counts.values())) and sum(
        len(value.split()) for value in written
    ) >= MIN_WORDS * len(written)
    return "text" if is_text else "category"


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
        The inverse document frequency of each.
    unknown_idf : float
        That of all other hashes.
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
    output_type: ClassVar[str] = "text"
    kind: ClassVar[str] = "text"

    @classmethod
    def fit(cls, values: Sequence[Any], label: str, rng: np.random.RandomState) -> Self:
        """Fit to a column, or to a random part of a very long one."""
        known = [str(value) for value in values if not is_missing(value)]
        if len(known) > MAX_FITTED_TEXTS:
            chosen = rng.choice(len(known), MAX_FITTED_TEXTS, replace=False)
            known = [known[row] for row in chosen]
        n_components = min(N_COMPONENTS, len(known))
        counts = _count_ngrams(known)
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
        return tuple(f"_svd{at}" for at in range(self.components.shape[1]))

    def encode(self, values: Sequence[Any]) -> Array:
        """Return the components of texts, with NaN for missing values; 0 for empty ones."""
        idf, components = self._by_hash
        encoded = np.empty((len(values), components.shape[1]))
        for start in range(0, len(values), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            texts = ["" if is_missing(value) else str(value) for value in values[part]]
            counts = _count_ngrams(texts)
            counts.data *= idf[counts.indices]
            rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
            norms = np.sqrt(np.bincount(rows, counts.data**2, minlength=len(texts)))
            encoded[part] = (counts @ components) / np.where(norms == 0, 1, norms)[:, np.newaxis]
        encoded[[is_missing(value) for value in values]] = np.nan
        return encoded

    @cached_property
    def _by_hash(self) -> tuple[Array, Array]:
        """The inverse document frequency and components of every hash."""
        idf = np.full(N_NGRAMS, self.unknown_idf)
        components = np.zeros((N_NGRAMS, self.components.shape[1]))
        idf[self.hashes], components[self.hashes] = self.idf, self.components
        return idf, components


def _count_ngrams(texts: list[str]) -> sparse.csr_array:
    """Return how often each hash of an n-gram occurs in each text."""
    if not texts:
        return sparse.csr_array((0, N_NGRAMS))
    return sparse.csr_array(_VECTORIZER.transform(texts))

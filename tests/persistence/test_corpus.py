"""Files of all releases load, predict the same and can resume training.

`make corpus` writes the files of this version; write_corpus.py has the models and data.
"""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from write_corpus import CLASSES, CORPUS, MODELS, WORDS, X, predictions_of, rows_of

import skbackprop
from skbackprop.persistence import load
from support import few_epochs

# scikit-learn warns about its estimators in files of another version.
pytestmark = [
    few_epochs,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning"),
]

FILES = sorted(CORPUS.rglob("*.skops"))
VERSIONS = sorted({path.parent for path in FILES})


def test_corpus_has_files_of_this_version():
    """If it fails, the version is new: run `make corpus`."""
    assert {path.stem for path in FILES if path.parent.name == skbackprop.__version__} == {*MODELS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_predictions_are_unchanged(path):
    expected = json.loads((path.parent / "expected.json").read_text())[path.stem]
    found_by_method = predictions_of(load(path), rows_of(MODELS[path.stem][1]))
    assert found_by_method.keys() == expected.keys()
    for method, values in expected.items():
        for found, wanted in zip(found_by_method[method], values, strict=True):
            assert_near(found, wanted)


def assert_near(found, wanted):
    """Assert that labels are equal, and numbers up to rounding."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_training_resumes(folder):
    warm, session = load(folder / "warm.skops"), load(folder / "pieces.skops")
    n_iter = session.t_
    assert warm.fit(X, WORDS).n_iter_ > 0
    assert session.partial_fit(X, CLASSES).t_ == n_iter + len(X)


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_loaded_search_can_be_fitted_again(folder):
    search = load(folder / "search.skops")
    assert search.fit(X, CLASSES).predict(X).shape == CLASSES.shape
    with pytest.raises(NotFittedError):
        search.estimator.predict(X)

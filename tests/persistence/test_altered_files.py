"""Altered and foreign files are refused, with an error that says what is wrong."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import skops.io
from forging import members_of, node, plain, sequence, written, zip_of
from hypothesis import given
from hypothesis import strategies as st

from skbackprop import BackpropClassifier
from skbackprop.persistence import load, save
from skbackprop.persistence.save_load import CorruptFileError, pack, unpack
from support import class_data, few_epochs, quick
from support.lanes import examples

pytestmark = few_epochs

ABOUT = "skbackprop.json"
X, y = class_data(20)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model, its file, and a path for other files."""
    folder = tmp_path_factory.mktemp("saved")
    model = quick(BackpropClassifier, hidden_layer_sizes=(2,)).fit(X, y)
    save(model, folder / "model.skops")
    return model, (folder / "model.skops").read_bytes(), folder / "altered.skops"


def assert_same_or_refused(saved, content):
    """Assert that a file gives the same model or is refused."""
    model, whole, path = saved
    try:
        inside, _ = unpack(bytes(content))
    except CorruptFileError:
        return
    assert members_of(inside) == members_of(unpack(whole)[0])
    path.write_bytes(content)
    np.testing.assert_equal(load(path).predict_proba(X), model.predict_proba(X))


@pytest.mark.long
def test_flipped_bits_are_detected(saved):
    """In the description and the directory at the ends, and in every 31st byte between."""
    _, whole, _ = saved
    for at in {*range(100), *range(100, len(whole), 31), *range(len(whole) - 100, len(whole))}:
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        assert_same_or_refused(saved, altered)


@examples(1)
@given(st.data())
def test_cut_and_inserted_bytes_are_detected(saved, data):
    whole = saved[1]
    places = st.integers(0, len(whole))
    begin, end = sorted((data.draw(places), data.draw(places)))
    altered = data.draw(
        st.sampled_from([whole[:begin], whole[begin:], whole[:begin] + whole[end:]])
    )
    at = data.draw(st.integers(0, len(altered)))
    assert_same_or_refused(saved, altered[:at] + data.draw(st.binary(max_size=30)) + altered[at:])


# --------------------------------------------------------------------------- error messages


def assert_refused(path, content, says):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"The file '.*{path.name}' {says}"):
        load(path)


NOT_OURS = r"was not written by skbackprop\.persistence\.save"


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", NOT_OURS),
        (b"hello", NOT_OURS),
        (pickle.dumps(BackpropClassifier()), NOT_OURS),
        (b"PK\x03\x04", "is damaged or incomplete"),
        (zip_of({"a.txt": b"hello"}), f"is a zip, but was not .* no {ABOUT}"),
        (skops.io.dumps(BackpropClassifier()), r"is a zip, but was not .* skops\.io\.load"),
        (zip_of({ABOUT: b"hello"}), "is damaged"),
        (zip_of({ABOUT: b"{}"}), "is damaged"),
        (zip_of({ABOUT: b'{"format": 1, "written_by": [1], "sha256": ""}'}), "is damaged"),
    ],
    ids=range(9),
)
def test_foreign_files_are_refused(content, says, tmp_path):
    assert_refused(tmp_path / "model.skops", content, says)


def test_truncated_files_are_refused(saved, tmp_path):
    whole = saved[1]
    for n in (10, len(whole) // 2, len(whole) - 1):
        assert_refused(tmp_path / "model.skops", whole[:n], "is damaged or incomplete .* copy")


@pytest.mark.parametrize("ending", [ABOUT, "schema.json", ".npy"])
def test_changed_members_are_refused(ending, saved, tmp_path):
    """Their checksums in the zip fit."""
    members = members_of(saved[1])
    name = next(name for name in members if name.endswith(ending))
    other = bytes([members[name][-9] ^ 1])
    changed = members | {name: members[name][:-9] + other + members[name][-8:]}
    assert changed != members
    assert_refused(tmp_path / "model.skops", zip_of(changed), "is damaged.* copy")


@pytest.mark.parametrize(
    "change",
    [
        lambda members: {name: members[name] for name in list(members)[:-1]},
        lambda members: members | {"more.npy": b""},
        lambda members: dict(reversed(members.items())),
        lambda members: {"x" + name if "npy" in name else name: members[name] for name in members},
    ],
    ids=["one less", "one more", "another order", "other names"],
)
def test_missing_additional_and_renamed_members_are_refused(change, saved, tmp_path):
    changed = zip_of(change(members_of(saved[1])))
    assert_refused(tmp_path / "model.skops", changed, "is damaged")


def test_newer_format_names_the_version_that_wrote_it(saved, tmp_path):
    members = members_of(saved[1])
    about = json.loads(members[ABOUT])
    about |= {"format": 2, "written_by": {"skbackprop": "3.1"}}
    newer = zip_of(members | {ABOUT: json.dumps(about).encode()})
    says = "has format 2, written by skbackprop 3.1, but this version reads formats up to 1. Inst"
    assert_refused(tmp_path / "model.skops", newer, says)


def test_unloadable_content_names_the_version_that_wrote_it(tmp_path):
    """A file of another version may name classes that no longer exist."""
    name = "skbackprop.estimators.classifier.BackpropClassifier"
    path = written(tmp_path / "model.skops", node("ObjectNode", name, content=plain([1])))
    says = "is complete, but .* written by python .*, and installed are python .*Install"
    with pytest.raises(ValueError, match=says):
        load(path)


# ------------------------------------------------------------------------------- bombs


@pytest.mark.long
def test_zip_bombs_are_not_unpacked(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(30 << 20))
    assert_refused(tmp_path / "bomb.skops", file.getvalue(), ".*claims to contain 31457280 bytes")


@pytest.mark.long
def test_models_that_compress_like_a_bomb_are_not_compressed(tmp_path):
    model = BackpropClassifier(hidden_layer_sizes=[3] * 12_000)
    save(model, tmp_path / "model.skops")
    assert (tmp_path / "model.skops").stat().st_size > 1 << 20  # so it is not compressed
    assert load(tmp_path / "model.skops").hidden_layer_sizes == model.hidden_layer_sizes


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_the_same_name_are_refused(saved, tmp_path):
    file = io.BytesIO(saved[1])
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("schema.json", b"{}")
    assert_refused(tmp_path / "model.skops", file.getvalue(), "is damaged")


def test_nested_references_are_refused(tmp_path):
    part = plain(1)
    for number in range(1, 60):
        part = sequence(part, {"__id__": number - 1}, kind="list") | {"__id__": number}
    path = written(tmp_path / "bomb.skops", part)
    with pytest.raises(ValueError, match="references contradict each other"):
        load(path)


def test_arrays_shorter_than_their_header_claims_are_refused(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (1 << 36,)}
    np.lib.format.write_array_header_1_0(header, shape)
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")
    path = written(tmp_path / "bomb.skops", array, **{"1.npy": header.getvalue()})
    with pytest.raises(ValueError, match="is complete, but skops cannot load it"):
        load(path)


def test_deeply_nested_schema_is_refused(tmp_path):
    deep = b"[" * 100_000 + b"]" * 100_000
    path = tmp_path / "deep.skops"
    path.write_bytes(pack(zip_of({"schema.json": deep})))
    with pytest.raises(ValueError, match="has no schema that skops can read"):
        load(path)

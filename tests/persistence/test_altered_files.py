"""Is a file that is not what was saved always told, whatever has become of it?"""

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
from skbackprop.persistence._archive import CorruptFileError, pack, unpack
from skbackprop.persistence.save_load import canonical_bytes
from support import class_data, few_epochs, quick
from support.lanes import examples

pytestmark = few_epochs

ABOUT = "skbackprop.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model, its file, and a path for other files."""
    folder = tmp_path_factory.mktemp("saved")
    model = quick(BackpropClassifier, hidden_layer_sizes=(2,)).fit(*class_data(20))
    save(model, folder / "model.skops")
    return model, (folder / "model.skops").read_bytes(), folder / "altered.skops"


def assert_told(saved, content):
    """Assert that a file gives the very same model, or an error that names it."""
    model, whole, path = saved
    try:
        inside, _ = unpack(bytes(content))
    except CorruptFileError:
        return
    assert members_of(inside) == members_of(unpack(whole)[0])
    path.write_bytes(content)
    assert canonical_bytes(pickle.loads(pickle.dumps(model))) == canonical_bytes(load(path))


def test_the_file_itself_is_whole(saved):
    assert_told(saved, saved[1])


@pytest.mark.long
def test_a_bit_of_any_byte_is_told(saved):
    """Of each of the ends, where the description and the directory are, and of every 31st."""
    _, whole, _ = saved
    for at in {*range(100), *range(100, len(whole), 31), *range(len(whole) - 100, len(whole))}:
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        assert_told(saved, altered)


@examples(1)
@given(st.data())
def test_changed_bytes_are_told(saved, data):
    whole = saved[1]
    places = st.integers(0, len(whole) - 1)
    altered = bytearray(whole)
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        altered[at] = byte
    assert_told(saved, altered)


@examples(1)
@given(st.data())
def test_cut_and_inserted_bytes_are_told(saved, data):
    whole = saved[1]
    places = st.integers(0, len(whole))
    begin, end = sorted((data.draw(places), data.draw(places)))
    altered = data.draw(
        st.sampled_from([whole[:begin], whole[begin:], whole[:begin] + whole[end:]])
    )
    at = data.draw(st.integers(0, len(altered)))
    assert_told(saved, altered[:at] + data.draw(st.binary(max_size=30)) + altered[at:])


# ------------------------------------------------------------------- what the errors say


def assert_refused(path, content, says):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"The file '.*{path.name}' {says}"):
        load(path)


NOT_OURS = r"was not written by skbackprop\.persistence\.save"


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", NOT_OURS),
        (b"PK", NOT_OURS),
        (b"hello", NOT_OURS),
        (pickle.dumps(BackpropClassifier()), NOT_OURS),
        (b"PK\x03\x04", "is damaged or incomplete"),
        (zip_of({"a.txt": b"hello"}), f"is a zip, but was not .* no {ABOUT}"),
        (skops.io.dumps(BackpropClassifier()), r"is a zip, but was not .* skops\.io\.load"),
        (zip_of({ABOUT: b"hello"}), "is damaged"),
        (zip_of({ABOUT: b"{}"}), "is damaged"),
        (zip_of({ABOUT: b"[]"}), "is damaged"),
        (zip_of({ABOUT: b'{"format": 1, "written_by": [1], "sha256": ""}'}), "is damaged"),
    ],
    ids=range(11),
)
def test_other_files_are_no_files_of_ours(content, says, tmp_path):
    assert_refused(tmp_path / "model.skops", content, says)


def test_a_file_that_is_cut_short_is_damaged(saved, tmp_path):
    whole = saved[1]
    for n in (10, len(whole) // 2, len(whole) - 1):
        assert_refused(tmp_path / "model.skops", whole[:n], "is damaged or incomplete .* copy")


@pytest.mark.parametrize("ending", [ABOUT, "schema.json", ".npy"])
def test_a_member_that_was_changed_is_damage(ending, saved, tmp_path):
    """Whose own checksum, that of the zip, fits."""
    members = members_of(saved[1])
    name = next(name for name in members if name.endswith(ending))
    changed = members | {name: members[name][:-9] + b" " + members[name][-8:]}
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
def test_so_are_other_members(change, saved, tmp_path):
    changed = zip_of(change(members_of(saved[1])))
    assert_refused(tmp_path / "model.skops", changed, "is damaged")


def test_a_newer_format_says_what_wrote_it(saved, tmp_path):
    members = members_of(saved[1])
    about = json.loads(members[ABOUT])
    about |= {"format": 2, "written_by": {"skbackprop": "3.1"}}
    newer = zip_of(members | {ABOUT: json.dumps(about).encode()})
    says = "has format 2, written by skbackprop 3.1, but this version reads formats up to 1. Inst"
    assert_refused(tmp_path / "model.skops", newer, says)


def test_what_no_estimator_can_be_made_of_says_what_wrote_it(tmp_path):
    """A file of another version may name what there is no more."""
    name = "skbackprop.estimators.classifier.BackpropClassifier"
    path = written(tmp_path / "model.skops", node("ObjectNode", name, content=plain([1])))
    says = "is complete, but .* written by skbackprop 0.1.0, and installed are python .*Install"
    with pytest.raises(ValueError, match=says):
        load(path)


# ------------------------------------------------------------------------------- bombs


@pytest.mark.long
def test_members_of_another_size_than_any_model_s_are_not_unpacked(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(30 << 20))
    assert_refused(tmp_path / "bomb.skops", file.getvalue(), "claims to hold 31457280 bytes")


@pytest.mark.long
def test_a_model_that_compresses_like_a_bomb_is_saved_all_the_same(tmp_path):
    model = BackpropClassifier(hidden_layer_sizes=[3] * 12_000)
    save(model, tmp_path / "model.skops")
    assert (tmp_path / "model.skops").stat().st_size > 1 << 20  # so it is not compressed
    assert load(tmp_path / "model.skops").hidden_layer_sizes == model.hidden_layer_sizes


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(saved, tmp_path):
    file = io.BytesIO(saved[1])
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("schema.json", b"{}")
    assert_refused(tmp_path / "model.skops", file.getvalue(), "has two members with the same name")


def test_lists_of_lists_that_are_one_are_refused_before_they_are_counted(tmp_path):
    part = plain(1)
    for number in range(1, 60):
        part = sequence(part, {"__id__": number - 1}, kind="list") | {"__id__": number}
    path = written(tmp_path / "bomb.skops", part)
    with pytest.raises(ValueError, match="refers to its own parts as no model does"):
        load(path)


def test_an_array_that_pretends_to_be_large_is_no_array(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (1 << 36,)}
    np.lib.format.write_array_header_1_0(header, shape)
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")
    path = written(tmp_path / "bomb.skops", array, **{"1.npy": header.getvalue()})
    with pytest.raises(ValueError, match="is complete, but skops can't load it"):
        load(path)


def test_a_description_that_is_nested_without_end_is_refused(tmp_path):
    deep = b"[" * 100_000 + b"]" * 100_000
    path = tmp_path / "deep.skops"
    path.write_bytes(pack(zip_of({"schema.json": deep}), {"skbackprop": "0.1.0"}))
    with pytest.raises(ValueError, match="has no schema that skops can read"):
        load(path)

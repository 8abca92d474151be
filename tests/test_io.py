"""Whatever is wrong with a file is one error that names it; writes are whole or not at all."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from hpro_core import io
from hpro_core.errors import HproError


def refusal(read, path: Path, *arguments) -> str:
    """What a reader says of a file; it names it, in one line."""
    with pytest.raises(HproError) as caught:
        read(path, *arguments)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


READERS = {
    "json": (io.read_json, ()),
    "yaml": (io.read_yaml, ()),
    "text": (io.read_text, ()),
    "csv": (io.read_csv_table, (("a",), ("b",))),
    "npy": (io.read_npy, (np.uint64, 1)),
    "zip": (io.read_zip_members, (None, 10**6, "get it again")),
    "wav": (io.read_wav, (16_000,)),
    "safetensors": (io.read_safetensors, ()),
    "safetensors as tensors": (io.read_safetensors_torch, ()),
    "header": (io.safetensors_header, ()),
    "pt": (io.read_pt, ("get it again",)),
    "sha256": (io.sha256_of, ()),
}


@pytest.mark.parametrize("name", READERS)
def test_missing_folders_and_unreadable_files_are_named(name, tmp_path):
    read, arguments = READERS[name]
    assert "does not exist" in refusal(read, tmp_path / "none", *arguments)
    assert "is not a plain file" in refusal(read, tmp_path, *arguments)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refusal(read, tmp_path / "loop", *arguments)


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe\x00", os.urandom(999)], ids=len)
@pytest.mark.parametrize("name", [n for n in READERS if n not in ("text", "sha256")])
def test_foreign_content_is_named(name, content, tmp_path):
    read, arguments = READERS[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    refusal(read, path, *arguments)


# --- settings ------------------------------------------------------------------------------------


def settings(text: str) -> dict:
    return io.yaml_mapping(text, "params.yaml")


def test_small_numbers_as_dvc_writes_them_are_numbers():
    found = settings("a: 1e-05\nb: 1.0e-5\nc: 1E3\nd: -.5\ne: .inf\nf: 1.e2\n")
    assert found == {"a": 1e-5, "b": 1e-5, "c": 1000.0, "d": -0.5, "e": float("inf"), "f": 100.0}


@pytest.mark.parametrize("text", ["yes: 1", "a: 12", "a: 0", "a: -3", "a: 0x1F", "a: '010'",
                                  "a: [1, 2.5, x]", "a: {b: null, c: true}"])  # fmt: skip
def test_everything_else_is_read_as_before(text):
    assert settings(text) == yaml.safe_load(text)


def test_a_date_stays_text():
    assert settings("a: 2024-13-45\nb: 2024-01-02") == {"a": "2024-13-45", "b": "2024-01-02"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is also in line 1"),
        ("a:\n  b: 1\n  c: {d: 1, e: 2}\n  b: 2\n", "line 4: key 'b' is also in line 2"),
        ("a: 010\n", "line 1: 010 begins with a zero"),
        ("a: [1, 007]\n", "line 1: 007 begins with a zero"),
        ("a: 1\nb: : 2\n", "line 2"),
        ("", "has no settings"),
        ("- 1\n- 2\n", "has no settings"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1"),
        ("? {a: 1}\n: 2\n", "a key is not a plain value"),
        ("a: &x [*x]\n", "more than"),
        ("[" * 3000, "params.yaml"),
        ("a: !!float ''\n", "params.yaml"),
        ("a: !!bool x\n", "params.yaml"),
        ("a: !!timestamp x\n", "params.yaml"),
    ],
)
def test_unclear_settings_are_refused_with_their_line(text, says):
    with pytest.raises(HproError, match=r"params\.yaml") as caught:
        settings(text)
    assert says in str(caught.value)


def test_a_bomb_of_aliases_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(HproError, match="more than"):
        settings("\n".join(lines))


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: 1\n# caf\xe9\n")
    assert "line 2: byte 0xe9 is not UTF-8" in refusal(io.read_yaml, path)


# --- tables, arrays, archives --------------------------------------------------------------------


def test_json_faults_have_their_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n "b": }')
    assert "line 2" in refusal(io.read_json, path)
    path.write_text("[1]")
    assert "holds a list" in refusal(io.read_json, path)
    path.write_text("[" * 100_000)
    refusal(io.read_json, path)
    path.write_text('{"a": ' + "9" * 5000 + "}")
    refusal(io.read_json, path)


def test_json_that_no_file_could_hold_again_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": ["\\ud800"]}')
    assert "lone surrogate" in refusal(io.read_json, path)
    path.write_text('{"a": ' + "[" * 500 + "]" * 500 + "}")
    assert "nested more than 100 deep" in refusal(io.read_json, path)
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert io.read_json(path) == {"a": "\U0001f600"}


def test_a_value_of_another_type_is_named_with_its_place():
    kind = dict[str, dict[str, float]]
    assert io.check_type({"a": {"b": 1}}, kind, "a.json") == {"a": {"b": 1}}
    for value, place in (({"a": {"b": "1"}}, "a.json, a.b: "), ({"a": None}, "a.json, a: "),
                         ([], "a.json: ")):  # fmt: skip
        with pytest.raises(HproError, match=f"^{place}") as caught:
            io.check_type(value, kind, "a.json")
        assert "run the stage that writes it again" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,x\n2\n", "line 3: 1 cells, but the header has 2"),
        ("a,b\n1,x\n2,y,z\n", "line 3: 3 cells"),
        ("a,b\n1,x\nmuch,y\n", "line 3: a is 'much', not a number"),
        ("b,c\nx,1\n", "line 1: column 'a' is missing"),
        ("a,b,a\n1,x,2\n", "line 1: duplicate column"),
        ("a,b\n", "has no rows"),
        ('a,b\n1,"x\n2,y\n', "line"),
    ],
)
def test_csv_faults_have_their_line(text, says, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert says in refusal(io.read_csv_table, path, ("a",), ("b",))


@pytest.mark.parametrize("value", ["1_000", "\u0661", "0x10", " 1", "1e", "infinity", "1\x002"])
def test_what_only_python_takes_for_a_number_is_refused(value, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n{value},x\n")
    assert "not a number" in refusal(io.read_csv_table, path, ("a",), ("b",))


def test_a_text_that_is_empty_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,\n")
    assert "line 2: b is empty" in refusal(io.read_csv_table, path, ("a",), ("b",))


def test_a_csv_table_has_the_types_of_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,nan,\n-2,NA,.5e-3\n")
    table = io.read_csv_table(path, ("a",), ("b",))
    assert (table["a"].dtype, table["a"].tolist()) == (np.int64, [1, -2])
    assert table["b"].tolist() == ["nan", "NA"]
    assert (table["c"].dtype, table["c"][1]) == (np.float64, 0.0005)


def test_a_csv_table_is_read_as_pandas_does(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,01,\n2.5,nan,3\n")
    table = io.read_csv_table(path, ("a",), ("b",))
    assert list(table["a"]) == [1.0, 2.5]
    assert table["b"][0] == "01"
    assert np.isnan(table["c"][0])


def test_an_array_that_declares_more_than_it_has_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.npy"
    io.write_npy(path, np.arange(4, dtype=np.uint64))
    np.testing.assert_array_equal(io.read_npy(path, np.uint64, 1), np.arange(4))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"(4,), }            ", b"(4000000000000,), }"))
    message = refusal(io.read_npy, path, np.uint64, 1)
    assert "header declares 32000000000000 bytes" in message
    path.write_bytes(raw[:-1])
    assert "header declares 32 bytes, the file has 31" in refusal(io.read_npy, path, np.uint64, 1)
    np.save(path, np.array([{}], dtype=object))
    assert "holds object" in refusal(io.read_npy, path, np.uint64, 1)


@pytest.mark.parametrize("shape", ["(", "(8", "(4,), 'x'", "[[4]]", "'\\n'", "(4,)}\n  {"])
def test_an_odd_header_of_an_array_is_named(shape, tmp_path):
    path = tmp_path / "a.npy"
    text = f"{{'descr': '<u8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(32))
    refusal(io.read_npy, path, np.uint64, 1)


def test_a_huge_array_is_refused_by_its_header(tmp_path):
    path = tmp_path / "a.npy"
    io.write_npy(path, np.arange(4, dtype=np.uint64))
    os.truncate(path, 10**12)
    assert "header declares 32 bytes" in refusal(io.read_npy, path, np.uint64, 1)


def test_a_zip_with_a_broken_stream_or_a_nameless_member_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", os.urandom(500))
    raw = bytearray(path.read_bytes())
    raw[50:60] = bytes(10)
    path.write_bytes(raw)
    refusal(io.read_zip_members, path, None, 10**6, "get it again")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ab", b"x")
    path.write_bytes(path.read_bytes().replace(b"ab", b"\0b"))
    refusal(io.read_zip_members, path, None, 10**6, "get it again")


def test_zip_bombs_encryption_and_unknown_methods_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10**7))
    assert "takes more than 1000000 bytes" in refusal(io.read_zip_members, path, None, 10**6, "x")
    raw = bytearray(path.read_bytes())
    central = raw.index(b"PK\x01\x02")
    for at, value in ((6, 1), (8, 99)):  # flags: encrypted; method: unknown
        broken = bytearray(raw)
        broken[at] = broken[central + 2 + at] = value
        path.write_bytes(broken)
        refusal(io.read_zip_members, path, None, 10**8, "get it again")
    path.write_bytes(raw[:-30])
    refusal(io.read_zip_members, path, None, 10**8, "get it again")


def test_audio_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((100, 2)), 16_000)
    assert "not 16 kHz mono" in refusal(io.read_wav, path, 16_000)
    soundfile.write(path, np.zeros(0), 16_000)
    assert "is empty" in refusal(io.read_wav, path, 16_000)
    soundfile.write(path, np.full(10, np.nan), 16_000, subtype="FLOAT")
    assert "NaN or infinite" in refusal(io.read_wav, path, 16_000)


# --- weights -------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    io.write_safetensors(path, {"a": np.arange(6, dtype=np.float32).reshape(2, 3),
                                "b": np.ones(5, dtype=np.int8)})  # fmt: skip
    return path


def test_weights_come_back_equal(weights):
    found = io.read_safetensors(weights)
    np.testing.assert_array_equal(found["a"], np.arange(6).reshape(2, 3))
    as_tensors = io.read_safetensors_torch(weights)
    assert torch.equal(as_tensors["b"], torch.ones(5, dtype=torch.int8))


def described(found: dict) -> dict:
    return {name: (value.dtype, value.shape) for name, value in found.items()}


def same(found: dict, other: dict) -> bool:
    return all(value.tobytes() == other[name].tobytes() for name, value in found.items())


def test_no_flipped_bit_is_accepted(weights):
    raw, untouched = weights.read_bytes(), io.read_safetensors(weights)
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        weights.write_bytes(flipped)
        try:
            found = io.read_safetensors(weights)
        except HproError:
            continue
        # A bit of a name or of an axis alone, both of which `load_weights` refuses.
        assert described(found) != described(untouched) or same(found, untouched)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [6], "data_offsets": [0, 10**9]},
        {"dtype": "F32", "shape": ["6"], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [-1, -6], "data_offsets": [0, 24]},
        {"shape": [6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [6], "data_offsets": [24, 0]},
        7,
    ],
)
def test_a_header_that_declares_what_the_file_has_not_is_refused(entry, tmp_path):
    path = tmp_path / "model.safetensors"
    text = json.dumps({"a": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    for read in (io.safetensors_header, io.read_safetensors, io.read_safetensors_torch):
        assert "its header has an invalid entry a" in refusal(read, path)


def test_weights_without_a_checksum_are_refused_unless_they_are_published(weights):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3, dtype=np.float32)}, weights)
    assert "has no checksum" in refusal(io.read_safetensors, weights)
    assert list(io.read_safetensors(weights, own=False)) == ["a"]


def test_a_torch_file_of_objects_or_before_1_6_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": Path("x")}, path)
    assert "could run code" in refusal(io.read_pt, path, "get it again")
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert "version 1.6" in refusal(io.read_pt, path, "get it again")
    torch.save({"a": torch.ones(2)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    refusal(io.read_pt, path, "get it again")


def test_a_tensor_that_is_not_stored_in_full_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    for value in (torch.zeros(1).expand(2**40), torch.eye(3).to_sparse()):
        torch.save({"a": [{"b": value}]}, path)
        assert path.stat().st_size < 10_000
        assert "not stored in full" in refusal(io.read_pt, path, "get it again")


def test_a_torch_file_does_not_depend_on_the_process_that_wrote_it(tmp_path):
    code = (
        "import sys, torch; from pathlib import Path; from hpro_core import io\n"
        "io.write_pt(Path(sys.argv[1]), {'a': torch.arange(3)})\n"
    )
    paths = [tmp_path / name / "a.pt" for name in "bc"]
    for path in paths:
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()


# --- writing -------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    io.write_json(path, {"a": 1})

    def fails() -> None:
        with io.replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing_under_the_name(tmp_path):
    message = "a.json cannot be written"
    code = (
        "import sys; from pathlib import Path; from hpro_core import io\n"
        "with io.replacing(Path(sys.argv[1])) as partial:\n"
        "    partial.symlink_to('/dev/full'); partial.write_text('x' * 100_000)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "a.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert message in done.stderr
    assert "No space left on device" in done.stderr
    assert list((tmp_path / "new").iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "a.json"
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / f".a.json.{io._host()}-{dead.pid}.partial"
    alive = tmp_path / f".a.json.{io._host()}-{os.getppid()}.partial"
    elsewhere = tmp_path / ".a.json.another_host-1.partial"
    for each in (left, alive, elsewhere):
        each.write_text("half")
    io.write_json(path, {})
    assert not left.exists()
    assert alive.exists()
    assert elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    io.write_json(path, {})
    assert not elsewhere.exists()


def test_two_processes_that_write_one_file_do_not_meet(tmp_path):
    code = (
        "import sys; from pathlib import Path; from hpro_core import io\n"
        "for i in range(200): io.write_json(Path(sys.argv[1]), {'who': sys.argv[2] * 1000})\n"
    )
    path = tmp_path / "a.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), who]) for who in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.is_file():
            assert set(io.read_json(path)["who"]) in ({"a"}, {"b"})
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]

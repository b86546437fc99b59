"""The torchfits command: every format is read back with its own library and compared with astropy's reading.

Most runs are calls of `main` in this process, for speed; what belongs to a process of its own (exit status,
pipes, signals, missing packages) is run as ``python -m torchfits``.
"""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from astropy.io import fits
from PIL import Image
from safetensors.torch import load_file, save_file

from torchfits.cli import parse_hdu, parse_section, parse_slice


def child(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "torchfits", *map(str, args)], capture_output=True, timeout=60, **kwargs
    )


@pytest.fixture
def image(tmp_path):
    """An image of int16 in SCI, one of float32 in (SCI, 2), nothing in the primary HDU."""
    path = tmp_path / "image.fits"
    first = fits.ImageHDU(np.arange(600, dtype="i2").reshape(20, 30) - 300, name="SCI")
    first.header["EXPTIME"] = (1.5, "seconds")
    first.header["FILTER"] = "r'"
    first.header["GOOD"] = True
    first.header["CRPIX1"], first.header["CRPIX2"], first.header["CRPIX2A"] = 10.5, 5.0, 7.0
    first.header["HISTORY"] = "one"
    first.header["HISTORY"] = "two"
    second = fits.ImageHDU(np.random.default_rng(0).random((4, 5, 6), dtype="f4"), name="SCI", ver=2)
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(path)
    return path


@pytest.fixture
def table(tmp_path):
    """A table with every kind of column that the formats treat differently."""
    path = tmp_path / "table.fits"
    rng = np.random.default_rng(1)
    ragged = np.array([np.arange(n, dtype="f4") for n in (3, 0, 1, 2)], dtype=object)
    columns = [
        fits.Column("ID", "J", array=np.arange(4) - 2, unit="count"),
        fits.Column("RA", "D", array=rng.random(4) * 360),
        fits.Column("U", "I", bzero=32768, array=np.array([0, 1, 40000, 65535], "u2")),
        fits.Column("OK", "L", array=np.array([True, False, True, True])),
        fits.Column("NAME", "8A", array=["M 31", 'a,"b"', "", "NGC 5139"]),
        fits.Column("MAG", "3E", array=rng.random((4, 3), dtype="f4")),
        fits.Column("RAG", "PE()", array=ragged),
        fits.Column("Z", "M", array=np.array([1 + 2j, 0, 1j, 3])),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="CAT")]).writeto(path)
    return path


PLAIN = "ID,RA,U,OK,NAME,MAG"


def sci(path):
    with fits.open(path) as hdus:
        return hdus[1].data.copy()


def rows(path):
    with fits.open(path) as hdus:
        data = hdus[1].data
        return {n: data[n].astype(data[n].dtype.newbyteorder("=")) for n in data.names}


def check_columns(got, path, names, take=slice(None)):
    expected = rows(path)
    assert list(got) == names
    for name in names:
        want = expected[name][take]
        values = np.asarray(got[name])
        if name == "NAME":
            assert [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()] == want.tolist()
        else:
            assert values.dtype == want.dtype.newbyteorder("=")
            np.testing.assert_array_equal(values, want)


# ------------------------------------------------------------------------------ what was typed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-1", -1),
        ("SCI", "SCI"),
        ("SCI,2", ("SCI", 2)),
        ("A,B", "A,B"),
        (",2", ",2"),
        ("2MASS", "2MASS"),
    ],
)
def test_hdu(text, value):
    assert parse_hdu(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10:20,5:50", (slice(10, 20), slice(5, 50))),
        ("3, :5,-4:,::2", (3, slice(None, 5), slice(-4, None), slice(None, None, 2))),
        ("-1", (-1,)),
    ],
)
def test_section(text, value):
    assert parse_section(text) == value


@pytest.mark.parametrize("text", ["", "5", "a:b", "1:2:3:4", "1:9:0", "9:1:-1", "1.5:2"])
def test_slice_refused(text):
    with pytest.raises(ValueError, match=r"invalid literal|START:STOP|step"):
        parse_slice(text)


# ------------------------------------------------------------------------------ help, version, usage


@pytest.mark.parametrize("command", [[], ["info"], ["header"], ["convert"]])
def test_help_has_examples(run, command):
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    assert "Examples:\n" in out
    assert "  torchfits " in out


def test_version(run):
    import torchfits

    status, out, _ = run("--version")
    assert status == 0
    assert out.splitlines()[0] == f"torchfits {torchfits.versions()['torchfits']}"
    assert f"torch {torch.__version__}" in out.splitlines()


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["info"],
        ["nonsense"],
        ["info", "--nonsense", "x.fits"],
        ["header", "x.fits", "--nonsense"],
        ["convert", "x.fits"],
        ["convert", "x.fits", "x.gif"],
        ["convert", "x.fits", "-"],
        ["convert", "x.fits", "x.pt", "--rows", "5"],
        ["convert", "x.fits", "x.pt", "--section", "a:b"],
        ["convert", "x.fits", "x.png", "--percentile", "90", "10"],
        ["convert", "x.npy", "y.fits", "--hdu", "1"],
    ],
)
def test_usage_error(fails, args):
    assert "--help" in fails(*args, status=2)


# ------------------------------------------------------------------------------ info


def test_info(run, image, table):
    status, out, err = run("info", image, table)
    assert (status, err) == (0, "")
    for piece in ("SCI", "CAT", "int16", "float32"):
        assert piece in out


def test_info_json(run, image, table, tmp_path):
    packed = tmp_path / "packed.fits"
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(sci(image), name="C", compression_type="RICE_1")]
    ).writeto(packed)
    status, out, _ = run("info", "--json", image, table, packed)
    assert status == 0
    first, second, third = json.loads(out)
    assert first["path"] == str(image)
    assert [h["kind"] for h in first["hdus"]] == ["image"] * 3
    assert first["hdus"][0]["shape"] == [0]
    assert first["hdus"][2] == {
        "index": 2, "name": "SCI", "version": 2, "kind": "image", "shape": [4, 5, 6], "dtype": "float32",
        "compression": None,
    }  # fmt: skip
    cat = second["hdus"][1]
    assert (cat["kind"], cat["rows"], cat["name"]) == ("table", 4, "CAT")
    assert [c["name"] for c in cat["columns"]] == ["ID", "RA", "U", "OK", "NAME", "MAG", "RAG", "Z"]
    assert (cat["columns"][0]["tform"], cat["columns"][0]["unit"], cat["columns"][5]["shape"]) == (
        "J",
        "count",
        [3],
    )
    assert (third["hdus"][1]["compression"], third["hdus"][1]["shape"]) == ("RICE_1", [20, 30])


def test_info_goes_on_after_a_bad_file(run, image, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no FITS at all")
    status, out, err = run("info", bad, tmp_path / "none.fits", image)
    assert status == 1
    assert "SCI" in out
    first, second = err.splitlines()
    assert "bad.fits" in first
    assert "none.fits" in second
    status, out, _ = run("info", "--json", bad, image)
    assert status == 1
    first, second = json.loads(out)
    assert "bad.fits" in first["error"]
    assert len(second["hdus"]) == 3
    assert "error" not in second


# ------------------------------------------------------------------------------ header


def test_header_cards(run, image):
    status, out, _ = run("header", image, "SCI")
    assert status == 0
    with fits.open(image) as hdus:
        cards = [card.image.rstrip() for card in hdus[1].header.cards]
    assert [line.rstrip() for line in out.splitlines() if line.strip() != "END"] == cards


def test_header_values(run, image):
    status, out, _ = run("header", image, "1", "-k", "EXPTIME", "-k", "filter", "-k", "GOOD", "-kHISTORY")
    assert (status, out) == (0, "1.5\nr'\nT\none\ntwo\n")


@pytest.mark.parametrize(("hdu", "naxis"), [([], "0"), (["-1"], "3"), (["sci,2"], "3"), (["SCI"], "2")])
def test_header_hdu(run, image, hdu, naxis):
    assert run("header", image, *hdu, "-k", "NAXIS")[1] == naxis + "\n"


def test_header_missing(fails, image):
    assert "NOPE" in fails("header", image, "-k", "NAXIS", "-k", "NOPE")
    assert "REF" in fails("header", image, "REF")
    assert "7" in fails("header", image, "7")
    assert "-4" in fails("header", image, "-4")


def test_escape_sequences_do_not_reach_the_terminal(run, tmp_path):
    path = tmp_path / "evil.fits"
    fits.PrimaryHDU().writeto(path)
    raw = path.read_bytes()
    card = b"COMMENT \x1b]0;owned\x07".ljust(80)
    path.write_bytes(raw.replace(b"END".ljust(80), card + b"END".ljust(80), 1)[: len(raw)])
    done = child("header", path)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"owned" in done.stdout


# ------------------------------------------------------------------------------ convert an image


def test_image_to_pt(run, image, tmp_path):
    assert run("convert", image, tmp_path / "o.pt") == (0, "", "")
    got = torch.load(tmp_path / "o.pt", weights_only=True)
    assert got.dtype == torch.int16
    np.testing.assert_array_equal(got.numpy(), sci(image))


def test_image_to_safetensors(run, image, tmp_path):
    assert run("convert", image, tmp_path / "o.safetensors")[0] == 0
    got = load_file(tmp_path / "o.safetensors")
    assert list(got) == ["data"]
    np.testing.assert_array_equal(got["data"].numpy(), sci(image))


def test_image_to_npy_and_npz(run, image, tmp_path):
    assert run("convert", image, tmp_path / "o.npy")[0] == run("convert", image, tmp_path / "o.npz")[0] == 0
    got = np.load(tmp_path / "o.npy")
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, sci(image))
    with np.load(tmp_path / "o.npz") as archive:
        np.testing.assert_array_equal(archive["data"], sci(image))


def test_section_and_hdu(run, image, tmp_path):
    args = ("--hdu", "SCI,2", "--section", "-1,1:4,::2")
    assert run("convert", image, tmp_path / "o.npy", *args)[0] == 0
    with fits.open(image) as hdus:
        np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), hdus[2].data[-1, 1:4, ::2])
    assert run("convert", image, tmp_path / "p.npy", "--hdu", "-1", "--section", "2")[0] == 0
    assert np.load(tmp_path / "p.npy").shape == (5, 6)


def test_image_to_fits(run, image, tmp_path):
    assert run("convert", image, tmp_path / "o.fits")[0] == 0
    with fits.open(tmp_path / "o.fits", checksum=True) as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        np.testing.assert_array_equal(hdu.data, sci(image))
        assert (hdu.name, hdu.header["EXPTIME"], hdu.header["FILTER"]) == ("SCI", 1.5, "r'")
        assert hdu.header.comments["EXPTIME"] == "seconds"
        assert list(hdu.header["HISTORY"]) == ["one", "two"]


def test_section_to_fits_moves_the_reference_pixel(run, fails, image, tmp_path):
    assert run("convert", image, tmp_path / "o.fits", "--section", "5:15,-10:")[0] == 0
    with fits.open(tmp_path / "o.fits") as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        np.testing.assert_array_equal(hdu.data, sci(image)[5:15, -10:])
        assert [hdu.header[k] for k in ("CRPIX1", "CRPIX2", "CRPIX2A")] == [-9.5, 0.0, 2.0]
    assert "step" in fails("convert", image, tmp_path / "p.fits", "--section", "::2,:", status=2)
    assert "step" in fails("convert", image, tmp_path / "p.fits", "--section", "3", status=2)
    assert not (tmp_path / "p.fits").exists()


def test_scaled_image_to_fits(run, tmp_path):
    hdu = fits.PrimaryHDU(np.arange(20, dtype="i2").reshape(4, 5))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, 7
    hdu.writeto(tmp_path / "i.fits")
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.fits")[0] == 0
    np.testing.assert_array_equal(fits.getdata(tmp_path / "o.fits"), fits.getdata(tmp_path / "i.fits"))


@pytest.mark.parametrize("suffix", ["pt", "npy", "npz", "safetensors"])
def test_tensor_to_fits(run, tmp_path, suffix):
    array = np.random.default_rng(2).random((7, 9), dtype="f4")
    path = tmp_path / f"i.{suffix}"
    match suffix:
        case "pt":
            torch.save(torch.from_numpy(array), path)
        case "npy":
            np.save(path, array.astype(">f4"))
        case "npz":
            np.savez(path, data=array)
        case "safetensors":
            save_file({"data": torch.from_numpy(array)}, path)
    assert run("convert", path, tmp_path / "o.fits") == (0, "", "")
    np.testing.assert_array_equal(fits.getdata(tmp_path / "o.fits"), array)


def test_columns_to_fits(run, tmp_path):
    columns = {"A": torch.arange(5), "B": torch.rand(5, 2)}
    torch.save(columns, tmp_path / "i.pt")
    assert run("convert", tmp_path / "i.pt", tmp_path / "o.fits")[0] == 0
    for name, values in columns.items():
        np.testing.assert_array_equal(rows(tmp_path / "o.fits")[name], values.numpy())


# ------------------------------------------------------------------------------ pictures


def test_png(run, tmp_path):
    sky = np.random.default_rng(3).normal(100, 1, (64, 48)).astype("f4")
    sky[5:8, 40:43] = 5000  # a star low on the right
    sky[60, 0] = np.nan
    sky[61, 0] = np.inf
    sky[62, 0] = -np.inf
    fits.writeto(tmp_path / "i.fits", sky)
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.png") == (0, "", "")
    with Image.open(tmp_path / "o.png") as picture:
        assert (picture.size, picture.mode) == ((48, 64), "L")
        grey = np.asarray(picture)[::-1]
    assert (grey[5:8, 40:43] == 255).all()
    assert (grey[60, 0], grey[61, 0], grey[62, 0]) == (0, 255, 0)
    assert 10 < np.median(grey) < 200


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.full((3, 4), 7, "i4"), {0}),
        (np.full((3, 4), np.nan, "f8"), {0}),
        (np.array([[0, 65535]], "u2"), {0, 255}),
        (np.array([[-(2**63), 2**63 - 1]], "i8"), {0, 255}),
        (np.array([[0, 1e-310]], "f8"), {0, 255}),
    ],
)
def test_png_extremes(run, tmp_path, data, expected):
    fits.writeto(tmp_path / "i.fits", data)
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.png", "--percentile", "0", "100")[0] == 0
    with Image.open(tmp_path / "o.png") as picture:
        assert set(np.asarray(picture).ravel().tolist()) == expected


def test_png_needs_a_plane(run, fails, image, tmp_path):
    assert "--section" in fails("convert", image, tmp_path / "o.png", "--hdu", "2")
    assert run("convert", image, tmp_path / "o.png", "--hdu", "2", "--section", "1:2")[0] == 0
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.size == (6, 5)


# ------------------------------------------------------------------------------ convert a table


def test_table_to_pt(run, table, tmp_path):
    assert run("convert", table, tmp_path / "o.pt")[0] == 0
    got = torch.load(tmp_path / "o.pt", weights_only=True)
    names = [name for name in got if name not in ("NAME", "RAG")]
    check_columns({name: got[name].numpy() for name in names}, table, names)
    assert bytes(got["NAME"][0].tolist()).rstrip(b" \0") == b"M 31"
    for got_row, want in zip(got["RAG"].unbind(), rows(table)["RAG"], strict=True):
        np.testing.assert_array_equal(got_row.numpy(), want)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_table_to_numpy(run, table, tmp_path, suffix):
    args = () if suffix == "npz" else ("--columns", PLAIN + ",Z")
    assert run("convert", table, tmp_path / f"o.{suffix}", *args)[0] == 0
    got = np.load(tmp_path / f"o.{suffix}")
    if suffix == "npz":
        with got:
            np.testing.assert_array_equal(got["RAG.values"], np.array([0, 1, 2, 0, 0, 1], "f4"))
            np.testing.assert_array_equal(got["RAG.offsets"], [0, 3, 3, 4, 6])
            check_columns(
                {n: got[n] for n in got.files if not n.startswith("RAG")}, table, [*PLAIN.split(","), "Z"]
            )
    else:
        check_columns({name: got[name] for name in got.dtype.names}, table, [*PLAIN.split(","), "Z"])


def test_table_to_safetensors(run, fails, table, tmp_path):
    assert "Z" in fails("convert", table, tmp_path / "o.safetensors")
    assert run("convert", table, tmp_path / "o.safetensors", "--columns", "ID,MAG,OK,U,RAG")[0] == 0
    got = load_file(tmp_path / "o.safetensors")
    check_columns(
        {name: got[name].numpy() for name in ("ID", "MAG", "OK", "U")}, table, ["ID", "MAG", "OK", "U"]
    )
    assert got["RAG.offsets"].tolist() == [0, 3, 3, 4, 6]


def test_table_to_parquet(run, fails, table, tmp_path):
    assert run("convert", table, tmp_path / "o.parquet")[0] == 0
    got = pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pydict()
    expected = rows(table)
    assert list(got) == [*PLAIN.split(","), "RAG", "Z"]
    assert got.pop("Z") == [[z.real, z.imag] for z in expected["Z"].tolist()]
    assert got == {
        name: [v.tolist() for v in expected[name]] if name == "RAG" else expected[name].tolist()
        for name in got
    }


def test_complex_columns_of_other_formats_to_parquet(run, fails, table, tmp_path):
    assert run("convert", table, tmp_path / "z.npz", "--columns", "Z")[0] == 0
    assert run("convert", tmp_path / "z.npz", tmp_path / "o.parquet")[0] == 0
    got = pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pydict()
    assert got == {"Z": [[z.real, z.imag] for z in rows(table)["Z"].tolist()]}
    assert "complex Z: use parquet" in fails("convert", tmp_path / "z.npz", tmp_path / "o.csv")


def test_columns_and_rows(run, table, tmp_path):
    assert run("convert", table, tmp_path / "o.parquet", "--columns", "ra,ID", "--rows", "1:4:2")[0] == 0
    got = pyarrow.parquet.read_table(tmp_path / "o.parquet")
    check_columns(
        {n.upper(): got[n].to_numpy() for n in got.column_names}, table, ["RA", "ID"], slice(1, 4, 2)
    )


def test_table_in_parts(run, tmp_path, monkeypatch):
    array = np.arange(1000, dtype="i8")
    fits.BinTableHDU.from_columns([fits.Column("A", "K", array=array)]).writeto(tmp_path / "i.fits")
    monkeypatch.setattr("torchfits.formats.BATCH_BYTES", 8 * 37)
    for suffix, read in (("parquet", pyarrow.parquet.read_table), ("csv", pyarrow.csv.read_csv)):
        assert run("convert", tmp_path / "i.fits", tmp_path / f"o.{suffix}", "--rows", "3::7")[0] == 0
        assert read(tmp_path / f"o.{suffix}")["A"].to_pylist() == array[3::7].tolist()


def test_parquet_keeps_nulls_and_what_the_header_says(run, tmp_path):
    columns = [
        fits.Column("N", "J", array=[1, -9, 3], null=-9, unit="count"),
        fits.Column("S", "3A", array=["a", "xyz", ""]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="CAT")
    hdu.writeto(tmp_path / "i.fits")
    data = (tmp_path / "i.fits").read_bytes()
    (tmp_path / "i.fits").write_bytes(data.replace(b"xyz", b"x\xe9z"))
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.parquet")[0] == 0
    got = pyarrow.parquet.read_table(tmp_path / "o.parquet")
    assert got.to_pydict() == {"N": [1, None, 3], "S": ["a", "x\ufffdz", ""]}
    assert got.schema.metadata[b"EXTNAME"] == b"CAT"
    assert got.schema.field("N").metadata[b"TUNIT"] == b"count"


def test_shapes_in_csv(run, tmp_path):
    """TDIM in the order of the tensor's axes, texts side by side, nothing of a column of no elements."""
    ragged = np.array(["ab", "", "c d"], dtype=object)
    columns = [
        fits.Column("M", "4I", dim="(2,2)", array=np.arange(12).reshape(3, 2, 2)),
        fits.Column("T", "4A", dim="(2,2)", array=[["a", "b"], ["c", "d"], ["e", "f"]]),
        fits.Column("NONE", "0E", array=np.zeros((3, 0))),
        fits.Column("R", "PA()", array=ragged),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "i.fits")
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.csv")[0] == 0
    got = pyarrow.csv.read_csv(tmp_path / "o.csv").to_pydict()
    assert list(got) == ["M_0", "M_1", "M_2", "M_3", "T_0", "T_1", "R"]
    assert [got[f"M_{i}"] for i in range(4)] == [[i, i + 4, i + 8] for i in range(4)]
    assert (got["T_1"], got["R"]) == (["b", "d", "f"], ["ab", "", "c d"])


def test_table_to_csv(run, fails, table, tmp_path):
    assert "RAG" in fails("convert", table, tmp_path / "o.csv")
    assert "complex Z" in fails("convert", table, tmp_path / "o.csv", "--columns", "ID,Z")
    assert run("convert", table, tmp_path / "o.csv", "--columns", PLAIN)[0] == 0
    got = pyarrow.csv.read_csv(tmp_path / "o.csv").to_pydict()
    expected = rows(table)
    assert list(got) == ["ID", "RA", "U", "OK", "NAME", "MAG_0", "MAG_1", "MAG_2"]
    for name in ("ID", "RA", "U", "OK", "NAME"):
        assert got[name] == expected[name].tolist()
    np.testing.assert_array_equal(np.array([got[f"MAG_{i}"] for i in range(3)], "f4").T, expected["MAG"])


def test_csv_refuses_very_wide_columns(run, fails, tmp_path):
    column = fits.Column("WIDE", "1001E", array=np.zeros((2, 1001), "f4"))
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "i.fits")
    assert "1001 columns for WIDE" in fails("convert", tmp_path / "i.fits", tmp_path / "o.csv")
    assert run("convert", tmp_path / "i.fits", tmp_path / "o.parquet")[0] == 0


def test_table_without_rows(run, tmp_path):
    columns = [fits.Column("A", "2E"), fits.Column("B", "5A"), fits.Column("C", "J")]
    fits.BinTableHDU.from_columns(columns, nrows=0).writeto(tmp_path / "i.fits")
    for suffix in ("parquet", "csv", "npy", "npz", "pt", "safetensors", "fits"):
        assert run("convert", tmp_path / "i.fits", tmp_path / f"o.{suffix}", "--hdu", "1")[0] == 0
    assert pyarrow.parquet.read_table(tmp_path / "o.parquet").schema.names == ["A", "B", "C"]
    assert (tmp_path / "o.csv").read_text().count("\n") == 1


def test_table_to_fits(run, table, tmp_path):
    assert run("convert", table, tmp_path / "o.fits", "--columns", PLAIN + ",Z", "--rows", "1:")[0] == 0
    check_columns(rows(tmp_path / "o.fits"), table, [*PLAIN.split(","), "Z"], slice(1, None))
    with fits.open(tmp_path / "o.fits") as hdus:
        assert hdus[1].name == "CAT"
        hdus.verify("exception")


def test_kinds_that_do_not_fit(fails, image, table, tmp_path):
    assert "--rows" in fails("convert", table, tmp_path / "o.pt", "--section", "1:2", status=2)
    assert "--section" in fails("convert", image, tmp_path / "o.pt", "--rows", "1:2", status=2)
    assert "image" in fails("convert", image, tmp_path / "o.csv", status=2)
    assert "table" in fails("convert", table, tmp_path / "o.png", status=2)
    assert "RAG" in fails("convert", table, tmp_path / "o.npy")
    assert "NOPE" in fails("convert", table, tmp_path / "o.pt", "--columns", "ID,NOPE")


# ------------------------------------------------------------------------------ files and streams


def test_bad_sources(fails, image, tmp_path):
    empty = tmp_path / "empty.fits"
    fits.PrimaryHDU().writeto(empty)
    text = tmp_path / "text.fits"
    text.write_bytes(b"not FITS " * 1000)
    assert "none.fits" in fails("convert", tmp_path / "none.fits", tmp_path / "o.pt")
    assert "none.npy" in fails("convert", tmp_path / "none.npy", tmp_path / "o.pt")
    assert "text.fits" in fails("convert", text, tmp_path / "o.pt")
    assert str(tmp_path) in fails("convert", tmp_path, tmp_path / "o.pt")
    assert "data" in fails("convert", empty, tmp_path / "o.pt")
    assert "REF" in fails("convert", image, tmp_path / "o.pt", "--hdu", "REF")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.fits", "image.fits", "text.fits"]


def test_target_is_kept(run, fails, image, tmp_path):
    target = tmp_path / "o.npy"
    target.write_bytes(b"mine")
    assert "--overwrite" in fails("convert", image, target)
    assert target.read_bytes() == b"mine"
    fails("convert", image, target, "--overwrite", "--hdu", "NOPE")
    assert target.read_bytes() == b"mine"
    assert run("convert", image, target, "--overwrite")[0] == 0
    np.testing.assert_array_equal(np.load(target), sci(image))
    before = image.read_bytes()
    assert "same file" in fails("convert", image, image, "--overwrite", "--hdu", "1")
    assert image.read_bytes() == before
    fails("convert", image, "/dev/null", "--to", "npy", "--overwrite")
    fails("convert", image, tmp_path / "nowhere" / "o.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.fits", "o.npy"]


def test_a_failed_write_leaves_nothing(fails, image, tmp_path, monkeypatch):
    def full(tensor, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(torch, "save", full)
    assert "No space left" in fails("convert", image, tmp_path / "o.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["image.fits"]


def test_target_follows_umask_and_links(run, image, tmp_path):
    (tmp_path / "real.npy").touch()
    (tmp_path / "link.npy").symlink_to("real.npy")
    umask = os.umask(0o027)
    try:
        assert run("convert", image, tmp_path / "link.npy", "--overwrite")[0] == 0
        assert run("convert", image, tmp_path / "o.npy")[0] == 0
    finally:
        os.umask(umask)
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "real.npy").shape == (20, 30)
    assert (tmp_path / "o.npy").stat().st_mode & 0o777 == 0o640


def test_missing_extra(fails, image, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install 'torchfits[png]'" in fails("convert", image, tmp_path / "o.png")


def test_missing_click():
    code = "import sys; sys.modules['click'] = None; import torchfits.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "torchfits: error: click is missing: pip install 'torchfits[cli]'\n",
    )


def test_stdout(image, table, tmp_path):
    done = child("convert", image, "-", "--to", "npy")
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "o.npy").write_bytes(done.stdout)
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), sci(image))
    done = child("convert", table, "-", "--to", "parquet", "--columns", "RAG")
    assert (done.returncode, done.stderr) == (0, b"")
    assert pyarrow.parquet.read_table(io.BytesIO(done.stdout)).column_names == ["RAG"]
    done = child("convert", table, "-", "--to", "csv", "--columns", "ID")
    assert (done.returncode, done.stdout) == (0, b'"ID"\n-2\n-1\n0\n1\n')


def test_binary_is_not_sent_to_a_terminal(image):
    leader, follower = os.openpty()
    try:
        command = [sys.executable, "-m", "torchfits", "convert", str(image), "-", "--to", "npy"]
        done = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert "terminal" in done.stderr


def test_errors_of_a_process(tmp_path):
    done = child("info", tmp_path / "none.fits", text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("torchfits: error: ")
    assert done.stderr.count("\n") == 1
    assert child("nonsense").returncode == 2


def test_warning_is_one_line(image):
    with open(image, "ab") as file:
        file.write(b"junk after the end")
    done = child("info", image, text=True)
    assert done.returncode == 0
    assert all(line.startswith("torchfits: warning: ") for line in done.stderr.splitlines())


def test_broken_pipe_is_quiet(image):
    command = [sys.executable, "-m", "torchfits", "info", *[str(image)] * 2000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_interrupt(image):
    command = [sys.executable, "-m", "torchfits", "info", *[str(image)] * 20000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 130

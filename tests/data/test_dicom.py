"""DICOM files that the tests write: what a viewer would show is what is read."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from revtaf.data.images import image_size, read_image, read_noted
from revtaf.errors import UserError

pydicom = pytest.importorskip("pydicom", reason="pip install 'revtaf[dicom]'")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

RAMP = np.add.outer(np.arange(40), 70 * np.arange(50)).astype(np.uint16)  # 0 to 3,469: 12 bits


def film(pixels: np.ndarray = RAMP, **header) -> Dataset:
    """A radiograph of MONOCHROME2 with these stored values; `header` replaces and adds."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Modality, data.PatientName, data.PatientID = "DX", "Phantom", "0"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in header.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    return data


def saved(data: Dataset, path, **options) -> np.ndarray:
    """What is read of the file, uint8."""
    data.save_as(path, enforce_file_format=True, **options)
    return np.asarray(read_image(path))


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, to 0 ... 255."""
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def test_a_dicom_is_known_by_its_content(tmp_path):
    """Without a suffix, or called .png, it is read; a picture called .dcm is a picture."""
    first = saved(film(), tmp_path / "film")
    assert np.array_equal(first, saved(film(), tmp_path / "film.png"))
    Image.fromarray(first).save(tmp_path / "picture.dcm", format="PNG")
    assert np.array_equal(first, np.asarray(read_image(tmp_path / "picture.dcm")))
    assert image_size(tmp_path / "film") == (50, 40)


def test_the_window_decides_black_and_white(tmp_path):
    """After the rescale, also where the film does not reach the window's ends; of several, the first."""
    header = {"WindowCenter": [1000, 2000], "WindowWidth": [3000, 100], "RescaleSlope": 0.5, "RescaleIntercept": 100}
    read = saved(film(BitsStored=12, **header), tmp_path / "film.dcm")
    assert np.abs(read - windowed(RAMP * 0.5 + 100, 1000, 3000)).max() <= 0.51
    assert read.min() > 40 and read.max() < 250


def test_a_signed_film_with_a_sigmoid_window(tmp_path):
    """PS3.3 C.11.2.1.3.1; no warning from the ends of the exponential."""
    pixels = RAMP.astype(np.int16) - 1500
    read = saved(film(pixels, WindowCenter=0, WindowWidth=1000, VOILUTFunction="SIGMOID"), tmp_path / "film.dcm")
    assert np.abs(read - 255 / (1 + np.exp(-4 * pixels / 1000))).max() <= 0.51


def test_a_lookup_table_decides_before_the_window(tmp_path):
    """A VOI LUT of falling steps from stored value 1,000 on; values below take its first entry, above its last."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 1000, 12], np.arange(4095, -1, -16, dtype=np.uint16).tobytes()
    data = film(VOILUTSequence=[table], WindowCenter=5, WindowWidth=2, RescaleSlope=1, RescaleIntercept=0)
    read = saved(data, tmp_path / "film.dcm")
    assert (read[RAMP <= 1000] == 255).all() and (read[RAMP >= 1255] == 0).all()
    between = (RAMP > 1000) & (RAMP < 1255)
    assert np.abs(read[between] - (255 - (RAMP[between].astype(float) - 1000))).max() <= 0.51


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2000, "WindowWidth": 4000}])
def test_monochrome1_is_turned_round(tmp_path, window):
    """Its lowest value is white: the same film stored the other way round gives the same picture."""
    upright = saved(film(BitsStored=12, **window), tmp_path / "2.dcm")
    window = window and {"WindowCenter": 4096 - 2000, "WindowWidth": 4000}
    inverse = film(4095 - RAMP, BitsStored=12, PhotometricInterpretation="MONOCHROME1", **window)
    turned = saved(inverse, tmp_path / "1.dcm")
    assert np.abs(turned.astype(int) - upright).max() <= 1 and upright.std() > 50


def test_without_a_window_padding_and_markers_do_not_count(tmp_path):
    """A border of padding at 65,535 is black and leaves the film's range alone; so does one marker."""
    plain = saved(film(), tmp_path / "plain.dcm")
    marked = RAMP.copy()
    marked[0, 0] = 65535
    assert np.abs(saved(film(marked), tmp_path / "marked.dcm").astype(int) - plain)[1:].max() <= 2
    padded = np.pad(RAMP, 10, constant_values=65535)
    read = saved(film(padded, PixelPaddingValue=65535), tmp_path / "padded.dcm")
    assert (read[:10] == 0).all() and np.array_equal(read[10:-10, 10:-10], plain)


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path):
    pixels = (RAMP % 200).astype(np.uint8)
    assert np.array_equal(saved(film(pixels), tmp_path / "a.dcm"), pixels)
    assert np.array_equal(saved(film(pixels, RescaleSlope=1, RescaleIntercept=0), tmp_path / "b.dcm"), pixels)


def test_colour_becomes_grey_and_is_noted(tmp_path):
    """RGB as the same picture in PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    read = saved(film(pixels), tmp_path / "film.dcm")
    assert np.array_equal(read, np.asarray(Image.fromarray(pixels).convert("L")))
    assert "in colour" in read_noted(tmp_path / "film.dcm")[1][0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_plain_encoding_gives_the_same_picture(tmp_path, syntax):
    little = saved(film(), tmp_path / "little.dcm")
    data = film(RAMP.astype(">u2") if syntax == ExplicitVRBigEndian else RAMP)
    data.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(saved(data, tmp_path / "other.dcm"), little)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_gives_the_same_picture(tmp_path, syntax):
    plain = saved(film(), tmp_path / "plain.dcm")
    data = film()
    data.compress(syntax)
    assert np.array_equal(saved(data, tmp_path / "small.dcm"), plain)


def test_lossless_jpeg_gives_the_same_picture(tmp_path):
    """The compression of most archives of radiographs; GDCM writes it."""
    gdcm = pytest.importorskip("gdcm", reason="pip install 'revtaf[dicom]'")
    plain = saved(film(), tmp_path / "plain.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "plain.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "small.dcm"))
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "small.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(np.asarray(read_image(tmp_path / "small.dcm")), plain)


def baseline(path, content: bytes) -> None:
    """An 8-bit film whose pixels are this JPEG."""
    data = film(np.zeros((40, 50), np.uint8))
    data.PixelData = encapsulate([content])
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.save_as(path, enforce_file_format=True)


def test_baseline_jpeg_is_read_as_the_jpeg_would_be(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray((RAMP // 20).astype(np.uint8)).save(jpeg, "JPEG")
    baseline(tmp_path / "film.dcm", jpeg.getvalue())
    assert np.abs(np.asarray(read_image(tmp_path / "film.dcm"), float) - Image.open(jpeg)).max() <= 1


def test_a_damaged_frame_is_one_message(tmp_path):
    baseline(tmp_path / "film.dcm", b"\xff\xd8 no JPEG")
    with pytest.raises(UserError, match=r"film.dcm: .*JPEG Baseline"):
        read_image(tmp_path / "film.dcm")


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    data = film()
    data.compress(RLELossless)
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    decoder = pydicom.pixels.get_decoder(JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    with pytest.raises(UserError, match=r"film.dcm: .*JPEG Lossless.*pip install 'revtaf\[dicom\]'"):
        read_image(tmp_path / "film.dcm")


def test_without_pydicom_the_message_says_what_to_do(tmp_path, monkeypatch):
    saved(film(), tmp_path / "film.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"film.dcm is a DICOM file.*convert it.*'revtaf\[dicom\]'"):
            read(tmp_path / "film.dcm")


def test_a_file_without_one_frame_is_refused(tmp_path):
    """No pixels, several frames (with the count), too many pixels, cut short: one message each."""
    bare = film(Modality="SR")
    del bare.PixelData
    movie = film(np.stack([RAMP] * 3).reshape(120, 50), NumberOfFrames=3, Rows=40)
    huge = film(Rows=20_000, Columns=20_000)
    cases = {
        "bare": (bare, "without pixels.*SR"),
        "movie": (movie, "3 frames"),
        "huge": (huge, "pixels.*scale it down"),
    }
    for name, (data, message) in cases.items():
        data.save_as(tmp_path / name, enforce_file_format=True)
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            read_image(tmp_path / name)
    saved(film(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for length in (132, 200, len(content) - 500):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(UserError, match="cut"):
            read_image(tmp_path / "cut")


def test_the_header_warns_of_what_is_no_frontal_chest(tmp_path):
    """Modality, body part and view where they are given; nothing is said of a frontal chest."""
    saved(film(BodyPartExamined="CHEST", ViewPosition="PA"), tmp_path / "a.dcm")
    assert read_noted(tmp_path / "a.dcm")[1] == []
    saved(film(Modality="CT", BodyPartExamined="HAND", ViewPosition="LL"), tmp_path / "b.dcm")
    assert [note.split(": ")[1] for note in read_noted(tmp_path / "b.dcm")[1]] == [
        "modality CT",
        "body part HAND",
        "view LL",
    ]


def test_a_window_that_is_none_is_noted(tmp_path):
    """The film is then scaled as one without a window."""
    plain = saved(film(), tmp_path / "plain.dcm")
    assert np.array_equal(saved(film(WindowCenter=0, WindowWidth=0), tmp_path / "film.dcm"), plain)
    assert read_noted(tmp_path / "film.dcm")[1][0].startswith("damaged DICOM window")


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": None, "WindowWidth": 400},
        {"WindowCenter": " ", "WindowWidth": 400},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": 1, "RescaleIntercept": None},
        {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": None},
    ],
    ids=str,
)
def test_elements_without_a_value_are_as_absent(tmp_path, header):
    """No grey picture, no refusal, and nothing to note."""
    plain = saved(film(), tmp_path / "plain.dcm")
    assert np.array_equal(saved(film(**header), tmp_path / "film.dcm"), plain)
    assert read_noted(tmp_path / "film.dcm")[1] == []


def test_a_window_with_an_empty_function_is_linear(tmp_path):
    window = {"WindowCenter": 1000, "WindowWidth": 3000}
    plain = saved(film(**window), tmp_path / "plain.dcm")
    assert np.array_equal(saved(film(**window, VOILUTFunction=None), tmp_path / "film.dcm"), plain)
    assert read_noted(tmp_path / "film.dcm")[1] == []

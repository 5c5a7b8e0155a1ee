"""Recognise picture formats by content and by name, and explain why other files are refused."""

from functools import cache

from PIL import Image

# The formats that a stranger may send: those of the web, whose decoders are tested best.
WEB_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP")

# Pillow tries formats in the given order, so the most common come first.
_FIRST = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF")

_RAW = """
    3fr arw cr2 cr3 crw dcr dng erf fff iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl
    sr2 srf srw x3f
"""
RAW_EXTENSIONS = frozenset(f".{extension}" for extension in _RAW.split())
HEIF_EXTENSIONS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)

_CONVERT = "Convert it to PNG or JPEG"
# Formats that Pillow only identifies, or renders by running another program.
_NOT_PICTURES = {
    "BUFR": "It is weather data (BUFR), not a picture",
    "EPS": f"It is EPS, a program for printers, which is never run. {_CONVERT}",
    "GRIB": "It is weather data (GRIB), not a picture",
    "HDF5": "It is scientific data (HDF5), not a picture",
    "MPEG": "It is a film (MPEG), not a picture",
    "PDF": f"It is a PDF document, not a picture. {_CONVERT}",
    "WMF": f"It is a vector drawing (WMF or EMF), which is never rendered. {_CONVERT}",
}

_DOCUMENTS = (
    (b"%PDF", _NOT_PICTURES["PDF"]),
    (b"\xd0\xcf\x11\xe0", "It is an office document, not a picture"),
    (b"PK\x03\x04", "It is an archive or a document, not a picture"),
    (b"<svg", f"It is a vector drawing (SVG), which is never rendered. {_CONVERT}"),
    (b"<?xml", f"It is XML, such as SVG, not a picture made of pixels. {_CONVERT}"),
    (b"<!doctype html", "It is a web page, not a picture"),
    (b"<html", "It is a web page, not a picture"),
)

_HEADERS = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"))


@cache
def has_heif() -> bool:
    """Let Pillow open HEIC and HEIF, and return whether it can: pillow-heif is optional."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def is_heif(data: bytes) -> bool:
    """Return whether bytes begin like HEIF (ISO 23008-12) other than AVIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[12:64]


@cache
def picture_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that it decodes itself, the most common first."""
    has_heif()
    Image.init()
    formats = set(Image.OPEN) - set(_NOT_PICTURES)
    first = tuple(format for format in _FIRST if format in formats)
    return first + tuple(sorted(formats - set(first)))


@cache
def picture_extensions() -> frozenset[str]:
    """Return the file extensions to look for, in lower case and with the dot.

    Those of camera RAW and HEIF are always included: if their library is missing, each file is
    reported with the package to install instead of being skipped silently.
    """
    formats = {*picture_formats(), "MPO"}
    known = {
        extension
        for extension, format in Image.registered_extensions().items()
        if format in formats
    }
    return frozenset(known | HEIF_EXTENSIONS | RAW_EXTENSIONS)


def explain_no_picture(data: bytes) -> str:
    """Return why no decoder accepts these bytes."""
    if not data:
        return "The file is empty"
    if is_heif(data) and not has_heif():
        return (
            "It is HEIC, which only pillow-heif can read. Install it: pip install pillow-heif "
            "(or 'datasette-clip-search[embed]')"
        )
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, reason in _DOCUMENTS:
        if start.startswith(magic.lower()):
            return reason
    for magic, format in _HEADERS:
        if data.startswith(magic):
            return (
                f"It ends early or is damaged: it begins like a {format}, but its header "
                "can't be read"
            )
    for format, reason in _NOT_PICTURES.items():
        accepts = Image.OPEN[format][1] if format in Image.OPEN else None
        if accepts and accepts(data[:16]):
            return reason
    return "It is not a picture in a format that can be read"

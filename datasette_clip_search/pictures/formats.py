"""Which formats are pictures, by content and by name, and why the others are not."""

from functools import cache

from PIL import Image

# What a stranger may send: the formats of the web, whose decoders are tested the hardest.
WEB_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP")

# Pillow tries formats in the order given: the commonest first.
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

# Formats that Pillow only recognises, or draws by running another program.
_NOT_PICTURES = {
    "BUFR": "BUFR holds measurements of the weather, not a picture",
    "EPS": "EPS is a program for a printer; it is not run",
    "GRIB": "GRIB holds measurements of the weather, not a picture",
    "HDF5": "HDF5 holds measurements, not a picture",
    "MPEG": "MPEG is a film, not a picture",
    "PDF": "PDF is a document, not a picture",
    "WMF": "WMF and EMF are lists of drawing commands; they are not run",
}

_DOCUMENTS = (
    (b"%PDF", _NOT_PICTURES["PDF"]),
    (b"\xd0\xcf\x11\xe0", "It is a document of an office program, not a picture"),
    (b"PK\x03\x04", "It is an archive or a document, not a picture"),
    (b"<svg", "SVG is a list of drawing commands; it is not run"),
    (b"<?xml", "It is XML (SVG, for instance), not a picture of pixels"),
    (b"<!doctype html", "It is a web page, not a picture"),
    (b"<html", "It is a web page, not a picture"),
)

_HEADERS = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"))


@cache
def has_heif() -> bool:
    """Lets Pillow open HEIC and HEIF, and returns whether it can: pillow-heif is optional."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def is_heif(data: bytes) -> bool:
    """Returns whether bytes begin like HEIF (ISO 23008-12) that holds no AVIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[12:64]


@cache
def picture_formats() -> tuple[str, ...]:
    """The names of the formats that Pillow decodes by itself, the commonest first."""
    has_heif()
    Image.init()
    formats = set(Image.OPEN) - set(_NOT_PICTURES)
    first = tuple(format for format in _FIRST if format in formats)
    return first + tuple(sorted(formats - set(first)))


@cache
def picture_extensions() -> frozenset[str]:
    """The extensions, with the dot, of the pictures that are looked for.

    Those of camera RAW and HEIF are always among them: where their library is missing, each file
    is reported with what to install, not passed over in silence.
    """
    formats = {*picture_formats(), "MPO"}
    known = {
        extension
        for extension, format in Image.registered_extensions().items()
        if format in formats
    }
    return frozenset(known | HEIF_EXTENSIONS | RAW_EXTENSIONS)


def why_no_picture(data: bytes) -> str:
    """Returns why no decoder takes some bytes."""
    if not data:
        return "The file is empty"
    if is_heif(data) and not has_heif():
        return (
            "It is HEIC, which needs pillow-heif. Install it: pip install pillow-heif "
            "(or 'datasette-clip-search[embed]')"
        )
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, reason in _DOCUMENTS:
        if start.startswith(magic.lower()):
            return reason
    for magic, format in _HEADERS:
        if data.startswith(magic):
            return (
                f"It ends early, or is damaged: it begins like a {format}, but its header "
                "can't be read"
            )
    for format, reason in _NOT_PICTURES.items():
        accepts = Image.OPEN[format][1] if format in Image.OPEN else None
        if accepts and accepts(data[:16]):
            return reason
    return "It is not a picture in a format that can be read"

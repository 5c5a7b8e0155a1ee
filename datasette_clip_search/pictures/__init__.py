"""Picture files: decoded, upright, in sRGB, with their EXIF facts, thumbnails and pixels."""

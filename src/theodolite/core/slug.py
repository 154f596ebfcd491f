"""Names that users choose (shifts, recipes, methods, dictionaries) as one part of a path, on every file system."""

import hashlib
import re

LONGEST = 80  # characters: most systems allow 255 bytes, and other parts and suffixes come on top
# Lower case only, because `Fit` and `fit` are one file on macOS and Windows; a dot cannot begin or end a name.
_SAFE = re.compile(r"[a-z0-9_(](?:[a-z0-9_.=+,@()-]*[a-z0-9_=+@)-])?")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")  # devices on Windows, whatever the suffix
_HASHED = re.compile(r".*-[0-9a-f]{12}")  # what the slug of another name may look like


def slug(name: str) -> str:
    """Return `name` where it is safe as a file name, else its safe characters and 12 digits of its sha256.

    Two different names never share a slug: a safe name that ends like a hashed one is hashed as well.

    >>> slug("held-out.2"), slug("../../etc/x"), slug("CON")
    ('held-out.2', 'etc_x-56da1a2ef2df', 'con-a3dbc4b644a9')
    """
    if len(name) <= LONGEST and _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name) and not _HASHED.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9_=+,@()-]+", "_", name.lower()).strip("_-")[: LONGEST - 20]
    return f"{words or 'name'}-{digest}"

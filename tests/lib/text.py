"""A real text to produce line by line: the system's copyright files and changelogs.

Made once a size, in build/tmp; the same on the same system. What kcat cannot carry in lines is left
out: empty lines, NULs and carriage returns. Where /usr/share/doc is small (images without
documentation), headers and library sources fill up.
"""
import glob
import gzip
import hashlib
import os

from lib.broker import BUILD

MIB = 1 << 20
SOURCES = ("/usr/share/doc/**/copyright", "/usr/share/doc/**/changelog*.gz",
           "/usr/include/**/*.h", "/usr/lib/python3/**/*.py", "/usr/lib/python3.*/**/*.py",
           "/usr/share/perl/**/*.p[lm]", "/usr/share/common-licenses/*")


def _lines(path):
    opener = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as text:
            data = text.read()
    except (OSError, EOFError):
        return
    for line in data.translate(None, b"\0\r").split(b"\n"):
        if line:
            yield line + b"\n"


def _write(path, size):
    """Whole lines, until `size` bytes are reached."""
    written = 0
    with open(path, "wb") as out:
        for pattern in SOURCES:
            for source in sorted(glob.glob(pattern, recursive=True)):
                if not os.path.isfile(source):
                    continue
                for line in _lines(source):
                    written += out.write(line)
                    if written >= size:
                        return
    assert written >= size // 2, f"only {written} bytes of text found on this system"


def text_file(size):
    """The path of a text of `size` bytes, rounded up to a whole line."""
    folder = os.path.join(BUILD, "tmp", "text")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, str(size))
    if not os.path.exists(path):
        making = f"{path}.{os.getpid()}"
        _write(making, size)
        os.rename(making, path)
    return path


def sha256(path):
    with open(path, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()

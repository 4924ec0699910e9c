# find_values.py TABLE PATH...: prints where the values of a CSV table that are not round (four decimals
# or more, or six-digit IDs) stand in files and folders: as a text, as a text of five digits, or as a
# binary number of 32 or 64 bits. HDF5 files are searched as they are and dataset by dataset.
import os
import re
import struct
import sys

import h5py

table = open(sys.argv[1]).read().split("\n")[1:]
cells = sorted({c for line in table for c in line.split(",")})
needles = {}
for cell in cells:
    if re.fullmatch(r"\d+\.\d{4,}|\d{6}", cell):
        value = float(cell)
        texts = {cell, "%.5g" % value} if "." in cell else {cell}
        # a text stands alone: no digit before or after
        patterns = [rb"(?<![\d.])" + re.escape(t.encode()) + rb"(?!\d)" for t in texts]
        patterns += [re.escape(struct.pack("<f", value)), re.escape(struct.pack("<d", value))]
        needles[cell] = re.compile(b"|".join(patterns), re.DOTALL)


def contents(path):
    yield open(path, "rb").read()
    if path.endswith(".h5"):
        parts = []
        with h5py.File(path, "r") as file:
            file.visititems(lambda _, o: parts.append(o[()]) if isinstance(o, h5py.Dataset) else None)
        for part in parts:
            yield part.tobytes() if hasattr(part, "tobytes") else bytes(part)


def files(paths):
    for path in paths:
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                yield from (os.path.join(folder, name) for name in names)
        else:
            yield path


for path in files(sys.argv[2:]):
    for cell in {cell for data in contents(path) for cell, needle in needles.items() if needle.search(data)}:
        print("%s: %s" % (path, cell))

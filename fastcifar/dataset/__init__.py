"""Files on disk -> uint8 images [N, 32, 32, 3] and int64 labels [N]. NumPy only: no torch in here.

- `image_set.py`  what a data set is once it is in memory
- `encoded.py`    where its compressed images lie, for a loader that decodes them itself
- `load.py`       the one entrance: `load_dataset("cifar10")` or `load_dataset("shapes10")`
- `layouts.py`    which of the known layouts lies in a folder; each has its reader: `cifar10.py` (the official
                  binary and python batches), `tarball.py`, `folder.py`, `webdataset.py`, `npz.py`
- `shapes10.py`   the built-in procedural set
- `download.py`, `importer.py`, `export.py`, `statistics.py`, `summary.py`, `grid.py`  what to do with a set
"""

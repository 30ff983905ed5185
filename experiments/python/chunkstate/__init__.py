# SPDX-License-Identifier: Apache-2.0
"""Chunkstate from Python: models, and results as xarray.

    import chunkstate
    model = chunkstate.Model("experiments/models/bamba-tiny")
    print(model.generate("The kernel", max_new_tokens=20))
"""
import os

from ._chunkstate import InputError, Model, UsageError

__all__ = ["InputError", "Model", "UsageError", "open_results"]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_results(file):
    """A results file, or the one in a run's folder, as an xarray.DataTree: a node per group, read when used.

    open_results("results.h5")["requests"].to_dataset().to_dataframe()

    InputError for what is no results file; the binary's `verify` checks one thoroughly.
    """
    import xarray

    path = os.fspath(file)
    if os.path.isdir(path):
        folder, path = path, os.path.join(path, "results.h5")
        if not os.path.exists(path):
            raise InputError(f"{folder}: no results.h5 in this folder, expected a results file or the folder of a run")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: not a regular file")
    try:
        with open(path, "rb") as stream:
            signature = stream.read(len(_HDF5_SIGNATURE))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if len(signature) < len(_HDF5_SIGNATURE):
        raise InputError(f"{path}: not an HDF5 file ({len(signature)} bytes)")
    if signature != _HDF5_SIGNATURE:
        raise InputError(f"{path}: not an HDF5 file (no signature at its start)")
    try:
        tree = xarray.open_datatree(path, engine="h5netcdf")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    conventions = tree.attrs.get("Conventions", "")
    if not str(conventions).startswith("Chunkstate-"):
        tree.close()
        raise InputError(f"{path}: not a results file of Chunkstate (Conventions is {conventions!r})")
    return tree

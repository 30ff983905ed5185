"""What is done to a results file to damage it. A row of BAD: number in the catalogue of bad inputs, what is wrong, a
fragment of the message, and a function that spoils an open file (h5py)."""
import h5py
import numpy

BAD = []


def bad(number, what, fragment):
    def add(spoil):
        BAD.append((number, what, fragment, spoil))
        return spoil
    return add


def replace(file, path, **options):
    """Deletes a dataset and makes another one of its name."""
    group, name = path.rsplit("/", 1)
    del file[path]
    return file[group].create_dataset(name, **options)


@bad(97, "a newer schema", "schema_version 2, this program reads 1")
def _(file):
    file.attrs["schema_version"] = numpy.int64(2)


@bad(97, "an older schema", "schema_version 0, this program reads 1")
def _(file):
    file.attrs["schema_version"] = numpy.int64(0)


@bad(97, "another program's file", "not a Chunkstate results file")
def _(file):
    del file.attrs["Conventions"]


for column in ("requests/item_id", "requests/ttft", "requests/request", "outputs/text", "tokens/offsets", "prompts/id",
               "sweep/point", "config/yaml_resolved", "model/digest", "provenance/ranks/host", "tokens", "requests"):
    @bad(99, f"no {column}", column.split("/")[0])
    def _(file, column=column):
        del file[column]


@bad(100, "texts where numbers are expected", "/requests/point: expected integers")
def _(file):
    replace(file, "/requests/point", data=["a"] * 12, dtype=h5py.string_dtype())


@bad(100, "numbers where texts are expected", "/requests/item_id: expected strings")
def _(file):
    replace(file, "/requests/item_id", data=numpy.zeros(12))


@bad(100, "texts of a fixed length", "/outputs/text: expected variable-length strings")
def _(file):
    replace(file, "/outputs/text", data=numpy.zeros(12, "S8"))


@bad(100, "two dimensions", "/requests/ttft: expected one dimension")
def _(file):
    replace(file, "/requests/ttft", data=numpy.zeros((12, 2)))


@bad(100, "a column that is too short", "/requests/ttft: 11 values, expected 12")
def _(file):
    replace(file, "/requests/ttft", data=numpy.zeros(11))


@bad(100, "a compound", "/requests/ttft: neither numbers nor strings")
def _(file):
    replace(file, "/requests/ttft", data=numpy.zeros(12, [("a", "f8"), ("b", "i4")]))


@bad(100, "a group where a column is expected", "requests/ttft")
def _(file):
    del file["requests/ttft"]
    file.create_group("requests/ttft")


@bad(100, "offsets that do not divide the tokens", "/tokens/offsets do not divide")
def _(file):
    file["tokens/offsets"][3] = 1000


@bad(100, "a repeat count of 2^40", "1099511627776 repeats, expected 1 to")
def _(file):
    file["requests"].attrs["repeats"] = numpy.int64(1 << 40)


@bad(100, "a point that does not exist", "damaged: content_digest")
def _(file):
    file["requests/point"][0] = 7


@bad(101, "2^60 numbers without data", "cannot be in a file of")
def _(file):
    replace(file, "/requests/ttft", shape=(1 << 60,), chunks=(1024,), dtype="f8")


@bad(101, "2^60 texts without data", "cannot be in a file of")
def _(file):
    replace(file, "/requests/item_id", shape=(1 << 60,), chunks=(1024,), dtype=h5py.string_dtype())


@bad(101, "2^62 numbers in one piece", "cannot be in a file of")
def _(file):
    # Allocated late: nothing is in the file.
    replace(file, "/requests/ttft", shape=(1 << 59,), dtype="f8")


@bad(102, "a chunk of 2 GiB", "chunks of more than 64 MiB")
def _(file):
    replace(file, "/requests/ttft", shape=(12,), maxshape=(None,), chunks=((1 << 28) - 1,), dtype="f8")


@bad(103, "a filter of a plugin", "filter 32015")
def _(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((12,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    del file["requests/ttft"]
    space = h5py.h5s.create_simple((12,))
    h5py.h5d.create(file["requests"].id, b"ttft", h5py.h5t.NATIVE_DOUBLE, space, properties)


@bad(104, "an external link", "/requests/ttft: a external link")
def _(file):
    del file["requests/ttft"]
    file["requests/ttft"] = h5py.ExternalLink("/etc/passwd", "/x")


@bad(104, "external storage", "/requests/ttft: its data are in another file")
def _(file):
    replace(file, "/requests/ttft", shape=(12,), dtype="f8", external=[("/etc/passwd", 0, 96)])


@bad(104, "a virtual dataset", "/requests/ttft: a virtual dataset")
def _(file):
    layout = h5py.VirtualLayout(shape=(12,), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(12,))
    del file["requests/ttft"]
    file["requests"].create_virtual_dataset("ttft", layout)


@bad(105, "a soft link to itself", "/requests/ttft: a soft link")
def _(file):
    del file["requests/ttft"]
    file["requests/ttft"] = h5py.SoftLink("/requests/ttft")


@bad(105, "a group in itself", "groups in groups too deep")
def _(file):
    file["requests/again"] = file["requests"]


@bad(105, "the root in a group", "groups in groups too deep")
def _(file):
    file["requests/root"] = file["/"]


@bad(107, "100,000 links", "more than 4096 objects")
def _(file):
    group = file.create_group("many")
    for i in range(4100):
        group[f"l{i}"] = file["requests/ttft"]


@bad(107, "a named type", "neither a group nor a dataset")
def _(file):
    file["requests/type"] = numpy.dtype("f8")

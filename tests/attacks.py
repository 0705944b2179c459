"""Random attacks on a saved model, and a process that tries them: each on a fresh copy, in a child of its own.

What can be listed is in `test_saved`: archives, arrays, texts and values of the manifest that are none of the package's.

``python -m tests.attacks`` reads from stdin ``{"model", "attacks", "patients", "posterior"}`` and prints a line of
JSON per attack: kind, seed and outcome. The process holds only what scoring needs (and xarray, where the posterior is
read), forks for each attack, and kills a child after `PATIENCE` seconds; a child may take `MEMORY` bytes.

Outcomes: ``refused`` (SavedModelError), ``unchanged`` (every score as before), and anything else, which is a finding.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

PATIENCE = 20.0
MEMORY = 2_000_000_000
KIND = {"scoring": ".npz", "branches": ".npz", "posterior": ".nc"}


# What attacks are made of.


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def write_manifest(folder, manifest, *, sealed=False):
    """Sealed: the forger knows how the manifest vouches for itself."""
    if sealed:
        rest = {key: value for key, value in manifest.items() if key != "sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        manifest = rest | {"sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def texts_of(manifest):
    """The files of the publication inside, in any format."""
    return manifest["publications"][0]["files"] if "publications" in manifest else manifest["publication"]


def file_of(folder, kind):
    return folder / manifest_of(folder)["files"][kind]["name"]


def forge(folder, kind, content):
    """Other contents, vouched for by name, size and digests."""
    file_of(folder, kind).unlink()
    manifest, digest = manifest_of(folder), hashlib.sha256(content).hexdigest()
    name = f"{kind}-{digest[:16]}{KIND[kind]}"
    manifest["files"][kind] = {"name": name, "bytes": len(content), "sha256": digest}
    (folder / name).write_bytes(content)
    write_manifest(folder, manifest, sealed=True)


def members_of(folder):
    with zipfile.ZipFile(file_of(folder, "scoring")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def forge_member(folder, name, data):
    forge(folder, "scoring", archive_of((members_of(folder) | {name: data}).items()))


def npy(array, *, pickled=False):
    member = io.BytesIO()
    np.lib.format.write_array(member, array, allow_pickle=pickled)
    return member.getvalue()


def pick(rng, items):
    items = list(items)
    return items[int(rng.integers(len(items)))]


def array_of(data):
    return np.lib.format.read_array(io.BytesIO(data))


def some_file(folder, rng):
    return pick(rng, sorted(path for path in folder.iterdir() if path.name != "card.md"))


def paths_of(value, path=()):
    """Every place in nested JSON."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_of(inner, (*path, key))


def parent_of(manifest, path):
    for key in path[:-1]:
        manifest = manifest[key]
    return manifest


ODD = [
    *(None, True, False, 0, -1, 1, 7, 2**63, 10**30, 0.5, 1e308, "", "0", "../../etc/passwd", "\ud800", "\0", "\x1b[2J"),
    *("x" * 5000, [], {}, [None], [[]], {"": ""}, {"__class__": "os.system"}, [[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]),
]


# The attacks, each given the folder and a generator.


def truncation(folder, rng):
    path = some_file(folder, rng)
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content)))])


def growth(folder, rng):
    path = some_file(folder, rng)
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 5000))))


def flipped(content, rng, most):
    """With up to so many bits, at least one, turned around."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, most + 1))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def bit_flips(folder, rng):
    path = some_file(folder, rng)
    path.write_bytes(flipped(path.read_bytes(), rng, 8))


def manifest_bit_flip(folder, rng):
    path = folder / "manifest.json"
    path.write_bytes(flipped(path.read_bytes(), rng, 1))


def edited_field(folder, rng):
    """Any value anywhere in the manifest."""
    manifest = manifest_of(folder)
    path = pick(rng, paths_of(manifest))
    parent_of(manifest, path)[path[-1]] = pick(rng, ODD)
    write_manifest(folder, manifest)


def edited_rule(folder, rng):
    """A digit or word in the publication: a cut, a level's name, a count."""
    manifest = manifest_of(folder)
    texts = texts_of(manifest)
    name = pick(rng, texts)
    text = texts[name]
    at = int(rng.integers(len(text)))
    texts[name] = text[:at] + pick(rng, "0123456789abz,\n") + text[at + 1 :]
    write_manifest(folder, manifest, sealed=bool(rng.integers(2)))


def dropped_key(folder, rng):
    manifest = manifest_of(folder)
    path = pick(rng, paths_of(manifest))
    del parent_of(manifest, path)[path[-1]]
    write_manifest(folder, manifest)


def unknown_key(folder, rng):
    manifest = manifest_of(folder)
    places = [manifest, *(parent_of(manifest, (*p, 0)) for p in paths_of(manifest))]
    place = pick(rng, [place for place in places if isinstance(place, dict)])
    place[pick(rng, ("extra", "__proto__", "files", "", "sha512"))] = pick(rng, ODD)
    write_manifest(folder, manifest)


def forged_field(folder, rng):
    """A value of another kind, in a manifest that vouches for itself: structure alone can tell, and must not crash."""
    manifest = manifest_of(folder)
    top = pick(rng, [key for key in manifest if key not in ("publication", "publications")])
    paths = [p for p in paths_of(manifest) if p[0] == top]
    path = pick(rng, paths)
    parent_of(manifest, path)[path[-1]] = pick(rng, ODD)
    write_manifest(folder, manifest, sealed=True)


def huge_shape(folder, rng):
    """The header declares far more than there is; the member keeps its size."""
    members = members_of(folder)
    name = pick(rng, members)
    array = array_of(members[name])
    shapes = (10**12,), (2**31, 2**31), (2**62, 4), (10**30,), (-1,), (0,), (1,) * 40, (True,), array.shape[::-1], ()
    shape = pick(rng, shapes)
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + array.tobytes()
    forge_member(folder, name, data)


def strange_header(folder, rng):
    members = members_of(folder)
    name = pick(rng, members)
    array = array_of(members[name])
    bodies = (
        "{'descr': '<f4'}",
        "(" * 900 + ")" * 900,
        "__import__('os').system('true')",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': ('<f4', (1000000, 1000000)), 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (4L,), }",
        "\xff\xfe",
        "",
    )
    header = pick(rng, bodies).ljust(117) + "\n"
    version = pick(rng, (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    encoded = header.encode("latin1")
    data = b"\x93NUMPY" + version + len(encoded).to_bytes(2, "little") + encoded + array.tobytes()
    forge_member(folder, name, data)


def impossible_value(folder, rng):
    members = members_of(folder)
    name = pick(rng, [name for name in members if name != "published.npy"])
    array = array_of(members[name]).copy()
    odd = (np.nan, np.inf, -np.inf, -1.0, 1e30) if array.dtype.kind == "f" else (-1, 99, 2**40)
    if name == "weight.npy" or name == "movement.npy":
        odd = (np.nan, np.inf, -np.inf, -1.0)
    array.flat[int(rng.integers(array.size))] = pick(rng, odd)
    forge_member(folder, name, npy(array))


def forged_record(folder, rng):
    """Settings, diagnostics, performance or versions of kinds and sizes that no fit gives."""
    manifest = manifest_of(folder)
    top = pick(rng, [key for key in ("settings", "diagnostics", "performance", "versions") if key in manifest])
    more = ("overlap", "ordering", "selection", "power", "prior_scale") if top == "settings" else ()
    key = pick(rng, [*manifest[top], *more])
    manifest[top][key] = pick(rng, [*ODD, -5.0, 1e300, "yes", "1"])
    write_manifest(folder, manifest, sealed=True)


def damaged_archive(folder, rng):
    """Flipped bits and cuts in the archive's own directory and headers, under digests that vouch for them."""
    content = bytearray(file_of(folder, "scoring").read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        directory = archive.start_dir
        headers = [info.header_offset + int(rng.integers(30)) for info in archive.infolist()]
    for _ in range(int(rng.integers(1, 4))):
        at = pick(rng, headers) if rng.integers(2) else int(rng.integers(directory, len(content)))
        content[at] ^= 1 << int(rng.integers(8))
    forge(folder, "scoring", bytes(content))


def foreign_posterior(folder, rng):
    forge(folder, "posterior", pick(rng, (b"", b"\x89HDF\r\n\x1a\n", b"CDF\x01" + b"\0" * 100, rng.bytes(5000), b"PK\x05\x06")))


def damaged_posterior(folder, rng):
    """Flipped bits and cuts under digests that vouch for them: the library itself must withstand these."""
    content = flipped(file_of(folder, "posterior").read_bytes(), rng, 8)
    forge(folder, "posterior", content[: pick(rng, (None, int(rng.integers(len(content)))))])


def forged_posterior(folder, rng):
    """A file of the right digest that leads out of itself, swells when it is read, or holds what no draws are."""
    forge_posterior(folder, rng, pick(rng, FORGED_POSTERIORS))


def forge_posterior(folder, rng, kind):
    import h5py

    content, secret = io.BytesIO(file_of(folder, "posterior").read_bytes()), folder.parent / "secret.bin"
    secret.write_bytes(np.full(10**6, 0.5, np.float32).tobytes())
    with h5py.File(content, "r+") as file:
        group = file[pick(rng, ("posterior", "prior"))]
        name = pick(rng, [name for name, data in group.items() if data.ndim > 2])
        values = group[name][:]
        del group[name]
        FORGED_POSTERIORS[kind](group, name, values, str(secret))
    forge(folder, "posterior", content.getvalue())


def virtual(group, name, values, secret):
    import h5py

    layout = h5py.VirtualLayout(values.shape, "f4")
    layout[:] = h5py.VirtualSource(secret, "x", values.shape)
    group.create_virtual_dataset(name, layout)


def texts_of_one(group, name, values, secret):
    import h5py

    group.create_dataset(name, data=np.array(["x" * 200_000] * 30, object), dtype=h5py.string_dtype())


def attribute(group, name, values, secret):
    group.create_dataset(name, data=values).attrs["x"] = np.zeros(5000)


def without_numbers(group, name, values, secret):
    values.flat[0] = np.nan
    group.create_dataset(name, data=values)


def elsewhere(group, name, values, secret):
    external = [(secret, 0, values.nbytes)]
    group.create_dataset(name, values.shape, "f4", external=external)


def linked(group, name, values, secret):
    import h5py

    group[name] = h5py.ExternalLink(secret, "/x")


def softly(group, name, values, secret):
    import h5py

    group[name] = h5py.SoftLink(next(iter(group)))


def made(*shape, **options):
    """Another array in the place of the draws."""
    return lambda group, name, values, secret: group.create_dataset(name, shape or None, **options)


def holding(data, **options):
    return lambda group, name, values, secret: group.create_dataset(name, data=values if data is None else data, **options)


FORGED_POSTERIORS = {
    "external storage": elsewhere,
    "external link": linked,
    "soft link": softly,
    "virtual array": virtual,
    "long texts": texts_of_one,
    "large attribute": attribute,
    "NaN": without_numbers,
    "bomb": made(4, 10**5, 10**5, dtype="f4", compression="gzip", chunks=True),
    "nothing stored": made(10**12, dtype="f8"),
    "huge chunk": made(1, 1, dtype="f8", chunks=(10**4, 10**4), maxshape=(None, None)),
    "foreign filter": holding(None, compression="lzf"),
    "records": holding(np.array([(1, 2.0)], dtype="i4,f8")),
    "opaque": holding(np.void(b"pickle")),
    "whole numbers": holding(np.zeros((2, 5), int)),
    "group in a group": lambda group, name, values, secret: group.create_group(name),
    "type": lambda group, name, values, secret: group.__setitem__(name, np.dtype("f8")),
    "array at the top": lambda group, name, values, secret: group.file.create_dataset(name, data=values),
    "foreign group": lambda group, name, values, secret: group.file.create_group("elsewhere"),
}


# Controls: that the trial would tell.


def nothing(folder, rng):
    pass


def another_model(folder, rng):
    """All digests forged and nothing malformed: risks do change, and no digest can tell."""
    array = array_of(members_of(folder)["draws.npy"])
    forge_member(folder, "draws.npy", npy(array * np.float32(0.5)))


CONTROLS = (nothing, another_model)
GENERAL = (
    *(truncation, growth, bit_flips, manifest_bit_flip, edited_field, edited_rule, dropped_key, unknown_key, forged_field),
    *(huge_shape, strange_header, impossible_value, damaged_archive, foreign_posterior, forged_record),
)
ATTACKS = {attack.__name__: attack for attack in (*GENERAL, damaged_posterior, forged_posterior, *CONTROLS)}
ON_POSTERIOR = "truncation growth bit_flips foreign_posterior damaged_posterior forged_posterior".split()
"""Attacks on files that the posterior must withstand, too."""


# Trying them.


def answers(folder, patients, posterior):
    """All that could change: every score, and with `posterior` every draw."""
    import pyarrow as pa

    from aemodel.pages.description import model_facts
    from aemodel.pages.render import card
    from aemodel.saved.reader import load_model
    from aemodel.scoring.score import score

    model = load_model(folder)
    scored = score(model, pa.table(patients), new_levels="sample").to_pydict()
    (
        repr(model),
        model._repr_html_(),
        card(model_facts(model.manifest, model.tables, model.risks), model.file_states()),
    )
    if posterior:
        scored["posterior"] = {name: array.values.tobytes() for name, array in model.posterior.items()}
        scored["prior"] = {name: array.values.tobytes() for name, array in model.prior.items()}
        scored["branches"] = None if model.branch_logits is None else model.branch_logits.tobytes()
    return scored


def outcome(folder, patients, posterior, expected):
    from aemodel.saved.manifest import SavedModelError

    try:
        found = answers(folder, patients, posterior)
    except SavedModelError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "unchanged" if found == expected else "CHANGED"


def in_child(work):
    """What `work` returns, from a child process; or how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (used_memory() + MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, work().encode()[:4000])
        os._exit(0)
    os.close(writing)
    status = wait(child)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    return said if status == 0 and said else status if isinstance(status, str) else f"ended with status {status}"


def wait(child):
    """The child's status, or ``hung``."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def used_memory():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main():
    order = json.load(sys.stdin)
    model, patients, posterior = Path(order["model"]), order["patients"], order["posterior"]
    expected = answers(model, patients, posterior)
    with tempfile.TemporaryDirectory() as scratch:
        for kind, seed in order["attacks"]:
            folder = Path(scratch) / f"{kind}-{seed}"
            shutil.copytree(model, folder)
            ATTACKS[kind](folder, np.random.default_rng([seed, len(kind), ord(kind[0])]))
            found = in_child(lambda folder=folder: outcome(folder, patients, posterior, expected))
            print(json.dumps({"kind": kind, "seed": seed, "outcome": found}), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

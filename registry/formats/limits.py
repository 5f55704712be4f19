"""How much a weight file may ask of its reader: the values of `docs/reading-weights.md`."""

from dataclasses import dataclass

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on work and memory; a file that exceeds one is malformed.

    Attributes:
        pickle_bytes: of one pickle.
        opcodes: of one pickle.
        probed_bytes: of records that should be no pickles and run like one, in one archive.
        machine_bytes: estimated memory of the objects that one pickle describes.
        mark_depth: nested MARKs of one pickle.
        long_bytes: longer integers are kept opaque.
        nesting: of containers in an object graph that is walked.
        references: followed while walking an object graph (a shared object counts each time it is met).
        names: tensors, entries and scalars that one file may list.
        archive_entries: records of one zip archive.
        inflate_ratio: inflated to compressed size of one record.
        inflated_bytes: sum of the inflated sizes of an archive's compressed records.
        header_bytes: of a safetensors header.
        json_bytes: of an index or configuration file.
        json_slack_bytes: texts of a JSON file beyond 1 KiB for each of its objects.
        json_depth: nesting of JSON.
        integer_digits: of an integer in JSON.
        name_bytes: of a tensor's name in UTF-8.
        dimensions: of a tensor.
        elements: a tensor has fewer, whatever its strides.
        scalar_characters: longer strings are not listed as scalars.
        scalar_members: the members of larger dicts (vocabularies) are not listed as scalars.
        scalar_items: longer lists are not listed as scalars.
    """

    pickle_bytes: int = 256 * _MIB
    opcodes: int = 7_000_000
    probed_bytes: int = 4 * _MIB
    machine_bytes: int = 112 * _MIB
    mark_depth: int = 100_000
    long_bytes: int = 8 * _KIB
    nesting: int = 1000
    references: int = 1_000_000
    names: int = 100_000
    archive_entries: int = 70_000
    inflate_ratio: int = 200
    inflated_bytes: int = 64 * _GIB
    header_bytes: int = 100_000_000
    json_bytes: int = 100_000_000
    json_slack_bytes: int = 32 * _MIB
    json_depth: int = 64
    integer_digits: int = 20
    name_bytes: int = 64 * _KIB
    dimensions: int = 64
    elements: int = 1 << 62
    scalar_characters: int = 4096
    scalar_members: int = 2000
    scalar_items: int = 64


DEFAULT_LIMITS = Limits()

"""Faults that a reader may have, each as a change of ours: what is there, and what a hurried hand would write."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault.

    Attributes:
        module: the file of `registry/formats` that gets it.
        text: what stands there, once.
        fault: what takes its place.
    """

    module: str
    text: str
    fault: str


PLANTS: dict[str, Plant] = {
    "two records of one name are taken": Plant(
        "archive.py", "if len({record.name.casefold() for record in records}) != len(records):", "if False:"
    ),
    "a name of the allow-list may go on": Plant(
        "allow_list.py",
        "        if pair in pairs:\n",
        "        if pair in pairs or any(m == module and name.startswith(n) for m, n in pairs):\n",
    ),
    "a global that is popped is forgotten": Plant(
        "stack_opcodes.py",
        "    if m.stack:\n        m.stack.pop()\n",
        "    if m.stack:\n        gone = m.stack.pop()\n"
        "        m.mentioned = {pair: each for pair, each in m.mentioned.items() if each is not gone}\n",
    ),
    "a view may reach beyond its storage": Plant(
        "tensors.py", "if elements and _bytes_of(last + 1, itemsize, packed) > available:", "if False:"
    ),
    "keys are looked through by recursion": Plant(
        "values.py",
        "    waiting: list[Node] = [node]\n    for _ in range(_KEY_NODES):\n",
        "    if isinstance(node, TupleNode):\n        return all(map(is_hashable, node.items))\n"
        "    waiting: list[Node] = [node]\n    for _ in range(_KEY_NODES):\n",
    ),
    "a local header may have another name": Plant(
        "archive.py", "if name_length != len(raw_name) or header[_LOCAL.size :] != raw_name:", "if False:"
    ),
    "bytes may follow the pickle": Plant("torch_zip.py", "    if result.end != len(data):\n", "    if False:\n"),
    "the memo is read one off": Plant(
        "stack_opcodes.py",
        "value = m.memo[index] if 0 <= index < len(m.memo) else Empty",
        "value = m.memo[index - 1] if 0 < index <= len(m.memo) else Empty",
    ),
    "an empty dimension makes all strides nothing": Plant(
        "facts.py", "        step *= max(1, length)\n", "        step *= length\n"
    ),
    "the byte order is not looked at": Plant(
        "archive_storages.py", '    return order == b"big"\n', "    return False\n"
    ),
    "a gradient of integers is taken": Plant(
        "tensor_arguments.py",
        'if truth(node) and not dtype.startswith(("float", "bfloat", "complex")):',
        "if truth(node) and False:",
    ),
    "a number in a tar header may be written in any way": Plant(
        "tar_members.py", "if not all(_OCTAL.fullmatch(header[place]) for place in _NUMBERS):", "if False:"
    ),
}  # fmt: skip
"""By what is wrong then."""

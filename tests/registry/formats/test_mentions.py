"""What is told of the names in a file: sorted, bounded, and never the harmless ones at the cost of the others."""

from registry.formats.mentions import list_globals, list_reasons, marked, name_some


def test_names_are_sorted_and_told_once():
    assert list_globals(["b.B", "a.A", "b.B"]) == ["a.A", "b.B"]


def test_of_too_many_names_those_outside_torch_come_first():
    harmless = [f"torch.nn.Layer{number:06}" for number in range(100_000)]
    listed = list_globals([*harmless, "zebra.Net"])
    assert len(listed) == 200
    assert listed[-1] == "zebra.Net"
    assert listed == sorted(listed)


def test_a_long_name_is_cut():
    (listed,) = list_globals(["a" * 100_000])
    assert len(listed) == 200
    assert listed.endswith("…")


def test_what_is_not_of_torch_nn_or_torch_optim_is_marked():
    names = ["torch.nn.modules.linear.Linear", "torch.optim.sgd.SGD", "torch.nnx.Net", "torch._dynamo.Hooks", "my.Net"]
    assert marked(names) == names[2:]


def test_many_reasons_are_bounded_and_the_rest_is_counted():
    assert list_reasons(["one", "two"]) == ["one", "two"]
    told = list_reasons([f"reason {number}" for number in range(500)])
    assert len(told) == 20
    assert told[-1] == "And 481 more reasons."
    assert len(list_reasons(["x" * 100_000])[0]) == 8_000


def test_a_sentence_names_some_and_counts_the_rest():
    assert name_some(["a.A", "b\n.B"]) == "a.A, b\\x0a.B"
    assert name_some([f"m.C{number}" for number in range(3000)], 2) == "m.C0, m.C1 and 2,998 more"

from registry import errors
from registry.errors import WeighbridgeError, error_from_problem, iter_error_classes


def test_every_error_class_has_a_code_of_its_own():
    classes = list(iter_error_classes())
    assert len({each.code for each in classes}) == len(classes)


def test_every_error_class_stands_in_the_tree_of_the_docstring():
    drawn = [line.split("─ ")[-1].split(" ")[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line]
    assert sorted(drawn) == sorted(each.__name__ for each in iter_error_classes() if each is not WeighbridgeError)


def test_a_code_on_the_wire_becomes_the_same_class_with_its_members():
    for kind in iter_error_classes():
        problem = {"type": "about:blank", "title": kind.title, "status": 400, "code": kind.code}
        error = error_from_problem({**problem, "detail": "why", "request_id": "r1", "globals": ["os.system"]})
        assert type(error) is kind
        assert (str(error), error.request_id, error.extra) == ("why", "r1", {"globals": ["os.system"]})


def test_a_code_of_a_newer_service_is_kept():
    error = error_from_problem({"code": "from_the_future", "detail": "why"})
    assert type(error) is WeighbridgeError
    assert error.extra == {"code": "from_the_future"}


def test_a_state_dict_mismatch_is_a_runtime_error_as_torch_raises():
    assert issubclass(errors.StateDictMismatchError, RuntimeError)

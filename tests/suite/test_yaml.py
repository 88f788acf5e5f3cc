"""Reading YAML: nothing that a file can hold takes long, or much memory."""

from tests.support.suites import problems


def test_bombs_are_refused():
    assert "nested too deeply" in problems("a: " + "[" * 500 + "]" * 500)[0]
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "too many" in problems("\n".join(lines))[0]
    assert "nested too deeply" in problems("a: &a [*a]")[0]

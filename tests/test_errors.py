"""One line names the first of many problems and counts the others."""

from uldscale.errors import NAMED, first_of


def test_the_first_are_named_and_the_others_counted() -> None:
    problems = [f"{number}.jpg is empty" for number in range(NAMED + 2)]
    assert first_of(problems[:2]) == "0.jpg is empty; 1.jpg is empty"
    assert first_of(problems[:NAMED]).endswith("4.jpg is empty")
    assert first_of(problems).endswith("4.jpg is empty; and 2 more")
    assert first_of(problems, named=1) == "0.jpg is empty; and 6 more"

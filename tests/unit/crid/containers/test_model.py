from crid.containers.model import fitted
from sampan.limits import NAME_CHARACTERS


def test_name_that_fits_stays_as_it_is() -> None:
    name = "k8s_main_" + "p" * (NAME_CHARACTERS - 9)
    assert fitted(name) == name


def test_longer_names_are_cut_and_stay_apart() -> None:
    one, other = (fitted("k8s_main_" + "p" * NAME_CHARACTERS + attempt) for attempt in ("_0", "_1"))
    assert len(one) == len(other) == NAME_CHARACTERS
    assert one != other
    assert one.startswith("k8s_main_ppp")

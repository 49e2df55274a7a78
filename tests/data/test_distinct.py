import pytest
from hypothesis import given
from hypothesis import strategies as st

from otmerge_hf.data import index_distinct


@given(st.lists(st.text(max_size=2)))
def test_ids_point_back_to_the_values(values):
    distinct, ids = index_distinct(values)
    assert [distinct[i] for i in ids] == values
    assert len(distinct) == len(set(values))
    assert distinct == sorted(set(values), key=values.index)


def test_unhashable_values_are_refused():
    with pytest.raises(TypeError, match="unhashable"):
        index_distinct([["a list"]])

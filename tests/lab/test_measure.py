"""What is timed: how many images the encoder sees when ten questions are asked about one."""

from benchmarks.runner.measure import inference_times, shared_image_throughput, take_turns


def test_an_image_is_encoded_once_or_for_each_question(merge, processor):
    model, seen = merge(), []
    model.otmerge.context_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    found = shared_image_throughput(model, processor, 32, questions=10, rounds=2)
    assert seen == [1, 10] * 3  # a warm-up and two rounds
    assert set(found) == {"once", "anew"}
    assert all(rate > 0 for rate in found.values())


def test_parts_of_a_forward(merge, processor):
    found = inference_times(merge(), processor, 32, 2, rounds=2)
    assert found["rest_share"] == found["rest_ms"] / (found["rest_ms"] + found["encoders_ms"])


def test_calls_take_turns():
    order = []
    found = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 4
    assert set(found) == {"a", "b"}

"""Where the shape is, how much of the heat lies there, and the pairing of two shapes."""

import torch
from PIL import Image

from benchmarks.tasks.easy_vqa_shapes import grow, heat_inside, pointing_hits, shape_mask, two_shapes, upsample


def image_of(color, box, background="white"):
    image = Image.new("RGB", (64, 64), background)
    image.paste(color, box)
    return image


def test_mask_of_a_shape_that_covers_a_corner():
    mask = shape_mask(image_of("black", (0, 0, 16, 32), background=(250, 245, 230)))
    assert mask.sum() == 16 * 32
    assert mask[:32, :16].all()


def test_grown_masks_stop_at_the_border():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 0, 4] = True
    assert grow(mask)[0].nonzero().tolist() == [[row, column] for row in range(3) for column in range(2, 7)]


def test_heat_of_single_pixels():
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:, 10:20, 10:20] = True
    heat = torch.zeros(3, 64, 64)
    heat[0, 15, 15] = 1
    heat[1, 21, 15] = 1  # in the margin: inside, but no hit
    heat[2, 15, 15], heat[2, 40, 40] = 0.4, 0.6
    torch.testing.assert_close(heat_inside(heat, masks), torch.tensor([1.0, 1.0, 0.4]))
    assert pointing_hits(heat, masks).tolist() == [True, False, False]


def test_upsampled_heat_sums_to_one_and_keeps_its_place():
    heat = torch.zeros(1, 4, 4)
    heat[0, 1, 2] = 1
    whole = upsample(heat, (64, 64))
    torch.testing.assert_close(whole.sum(), torch.tensor(1.0))
    centre = (whole[0].sum(1) @ (torch.arange(64) + 0.5), whole[0].sum(0) @ (torch.arange(64) + 0.5))
    torch.testing.assert_close(torch.stack(centre), torch.tensor([24.0, 40.0]))


def test_two_shapes_differ_in_name_and_answer_and_are_apart():
    def row(image, question, answer):
        return {"image": image, "question": question, "answer": answer}

    red, near, far = (image_of(*given) for given in (("red", (0, 0, 20, 20)), ("blue", (22, 0, 40, 20)),
                                                     ("green", (30, 30, 60, 50))))  # fmt: skip
    rows = [
        row(red, "what is the red shape?", "triangle"),
        row(far, "what is the red shape?", "circle"),  # the same name
        row(far, "what is the green shape?", "triangle"),  # the same answer
        row(near, "what is the blue shape?", "circle"),  # too near
        row(far, "is there a green shape?", "yes"),  # names nothing to tell
        row(far, "what is the green shape?", "circle"),
    ]
    (first, *_) = two_shapes(rows, 9)
    assert (first.question, first.answer, first.other_answer) == ("what is the red shape?", "triangle", "circle")
    assert torch.equal(first.asked, shape_mask(red))
    assert torch.equal(first.other, shape_mask(far))
    assert torch.equal(shape_mask(first.image), first.asked | first.other)
    assert first.image.getpixel((40, 40)) == far.getpixel((40, 40))
    assert len(two_shapes(rows, 1)) == 1

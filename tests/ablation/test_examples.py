"""What the examples page marks, and what it does not."""

import re

from revtaf.ablation.examples import PALETTE, coloured

REFERENCE = "The heart size is normal. There is a large right pleural effusion. No pneumothorax."


def marks(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<mark style="background:(#\w+)">(.*?)</mark>', html)


def test_a_sentence_has_the_colour_of_its_reference_sentence():
    """The second reference sentence is found in the text's first, in the second colour, on both sides."""
    found = coloured(REFERENCE, {"a": "large right pleural effusion. the heart size is normal."})
    assert marks(found["a"]) == [
        (PALETTE[1], "large right pleural effusion"),
        (PALETTE[0], "heart size"),
        (PALETTE[0], "normal"),
    ]
    assert (PALETTE[1], "large right pleural effusion") in marks(found[""])
    assert "No pneumothorax" in found[""] and PALETTE[2] not in found[""]  # nobody said it


def test_a_denial_does_not_match_an_assertion():
    """ "no pleural effusion" shares its words with "a large right pleural effusion", and says the opposite."""
    found = coloured(REFERENCE, {"a": "no right pleural effusion."})
    assert not marks(found["a"]) and "right pleural effusion" in found["a"]


def test_text_is_escaped():
    found = coloured("Size < 3 cm & stable nodule.", {"a": "size < 3 cm & stable nodule <script>."})
    assert "<script>" not in found["a"] and "&lt;" in found[""] and "&amp;" in found[""]


def test_empty_texts_come_through():
    assert coloured("", {"a": ""}) == {"": "", "a": ""}

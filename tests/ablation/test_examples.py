"""What the examples page marks, and what it does not."""

from revtaf.ablation import examples
from revtaf.ablation.examples import Example
from revtaf.comparators.trrg.settings import TRRGSettings
from revtaf.config import DataSettings
from revtaf.data.annotations import load_annotations
from revtaf.pages.cards import Piece
from revtaf.pages.environment import fill
from revtaf.pages.phrases import PALETTE, coloured
from revtaf.settings import Settings

REFERENCE = "The heart size is normal. There is a large right pleural effusion. No pneumothorax."


def marks(pieces: list[Piece]) -> list[tuple[str, str]]:
    return [(piece.mark, piece.text) for piece in pieces if piece.mark]


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def page(reference: str, texts: dict[str, str]) -> str:
    example = Example("an image", "data:image/png;base64,", coloured(reference, texts))
    return fill("examples.html", title="a title", where="a set", columns=2, examples=[example])


def test_a_sentence_has_the_colour_of_its_reference_sentence():
    """The second reference sentence is found in the text's first, in the second colour, on both sides."""
    found = coloured(REFERENCE, {"a": "large right pleural effusion. the heart size is normal."})
    assert marks(found["a"]) == [
        (PALETTE[1], "large right pleural effusion"),
        (PALETTE[0], "heart size"),
        (PALETTE[0], "normal"),
    ]
    assert (PALETTE[1], "large right pleural effusion") in marks(found[""])
    assert "No pneumothorax" in text(found[""]) and PALETTE[2] not in dict(marks(found[""]))  # nobody said it
    shown = page(REFERENCE, {"a": "large right pleural effusion. the heart size is normal."})
    assert shown.count(f'<mark style="background:{PALETTE[1]}">large right pleural effusion</mark>') == 2


def test_a_denial_does_not_match_an_assertion():
    """ "no pleural effusion" shares its words with "a large right pleural effusion", and says the opposite."""
    found = coloured(REFERENCE, {"a": "no right pleural effusion."})
    assert not marks(found["a"]) and "right pleural effusion" in text(found["a"])


def test_text_is_escaped():
    shown = page("Size < 3 cm & stable nodule.", {"<b>": "size < 3 cm & stable nodule <script>."})
    assert "<script" not in shown and "<b>" not in shown.replace("<b>Not a medical device.", "")
    assert shown.count("&lt; ") == 2 and shown.count("&amp;") == 2 and "&lt;script&gt;" in shown


def test_empty_texts_are_said():
    assert coloured("", {"a": ""}) == {"": [], "a": []}
    assert page("", {"a": ""}).count("<i>empty</i>") == 2


def test_the_image_of_a_system_with_sizes_of_its_own(phantom):
    """TRRG's lie in its first stage: the page shows the image at REVTAF's."""
    data = DataSettings(annotation=phantom / "annotation.json", images=phantom / "images")
    study = load_annotations(phantom / "annotation.json")["test"][0]
    assert examples._crop(study, TRRGSettings(data=data, llm={"folder": None})).shape == (224, 224)
    assert examples._crop(study, Settings(data=data, encoder={"image_size": 96, "resize": 100})).shape == (96, 96)

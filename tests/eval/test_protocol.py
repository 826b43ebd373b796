"""The protocol: post-processing as published, and a signature that says what was done."""

from revtaf.eval import nlg
from revtaf.eval.protocol import PROTOCOL, postprocess, reference_text


def test_decoder_text_gets_the_spacing_of_the_references():
    assert postprocess("well - expanded. no effusions.") == "well-expanded . no effusions . "
    assert postprocess("") == " " and postprocess("2.5 cm") == "2.5 cm "


def test_a_second_pass_would_change_rouge():
    """Why it is applied exactly once: doubled blanks are words to ROUGE-L, and nothing to BLEU."""
    reference, once = "the lungs are clear . no effusion .", postprocess("the lungs are clear. no effusion.")
    first, second = (nlg.compute([reference], [h], meteor=False) for h in (once, postprocess(once)))
    assert second["ROUGE_L"] < first["ROUGE_L"] and second["BLEU_4"] == first["BLEU_4"]


def test_references_are_cut_at_100_words():
    text = reference_text("word " * 150)
    assert len(text.split(" ")) == 100


def test_signature():
    assert PROTOCOL.signature(294, "rules-v1", "java17") == (
        "revtaf|n:294|unit:image|ref:mimic-clean+100w|hyp:r2gen-post|bleu:coco-closest|meteor:1.5jar,java17|"
        "rouge:coco-b1.2|ce:rules-v1,pos-only,example|v0.1.0"
    )
    assert "|meteor:none|" in PROTOCOL.signature(3, "chexbert", "no-java", unit="study")
    assert "|unit:study|" in PROTOCOL.signature(3, "chexbert", "no-java", unit="study")

"""The claims of the TRRG paper, judged as those of REVTAF are (`revtaf.ablation.claims`)."""

from __future__ import annotations

from revtaf.ablation.claims import Claim

PRINTED = ("BLEU_4", "CIDEr", "example_f1")  # of its Table 2
CLUES = ("Clues",)
WITH_DAL = ("Clues (DAL)",)
TRRG_CLAIMS = (
    Claim(
        "injecting disease clues (DCI) helps",
        "BLEU-4 +.005, CIDEr +.011, F1 +.030",
        CLUES,
        *("trrg_table2", "dci", "base", PRINTED),
    ),
    Claim(
        "cross-modal clue interaction (CMCI) helps more",
        "BLEU-4 +.017, CIDEr +.004, F1 +.003",
        CLUES,
        *("trrg_table2", "cmci", "dci", PRINTED),
    ),
    Claim(
        "the disease-aware consistency loss (DAL) helps more",
        "BLEU-4 -.002, CIDEr +.008, F1 +.006",
        WITH_DAL,
        *("trrg_table2", "dal", "cmci", PRINTED),
    ),
    Claim(
        "all three together help",
        "BLEU-4 +.020, CIDEr +.023, F1 +.039",
        WITH_DAL,
        *("trrg_table2", "dal", "base", PRINTED),
    ),
)

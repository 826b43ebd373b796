"""The claims of the MedFuse-CLIP paper, judged as those of REVTAF are (`revtaf.ablation.claims`)."""

from __future__ import annotations

from revtaf.ablation.claims import Claim

RANKED = ("i2t_recall_at_10", "t2i_recall_at_10")
TABLE_IV = (*RANKED, "auroc_name")  # its columns
LEARNS = ("By heart i→r", "By heart r→i")
NEGATIVES = (*LEARNS, "Same patient")
MEDFUSE_CLAIMS = (
    Claim(
        "hard negatives of the same patient help",
        "R@10 +.046 and +.042, AUROC +.013",
        NEGATIVES,
        *("medfuse_table4", "hard", "random", TABLE_IV),
    ),
    Claim(
        "weighting them by similarity helps more",
        "R@10 +.015 and +.017, AUROC +.005",
        NEGATIVES,
        *("medfuse_table4", "weighted", "hard", TABLE_IV),
    ),
    Claim(
        "the margin helps more",
        "R@10 +.023 and +.021, AUROC +.008",
        (*NEGATIVES, "Gap"),
        *("medfuse_table4", "margin", "weighted", TABLE_IV),
    ),
    Claim(
        "all three together help",
        "R@10 +.084 and +.080, AUROC +.026",
        (*NEGATIVES, "Gap"),
        *("medfuse_table4", "margin", "random", TABLE_IV),
    ),
    Claim(
        "half of the numbers keep R@10 within 2 %",
        "256 of 512, no figure",
        (*LEARNS, "Few numbers"),
        *("medfuse_figure3", "half", "full", RANKED),
        within=0.02,
    ),
)

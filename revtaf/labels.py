"""Categories, statuses, special tokens, entities and positions: the only copy in the project.

Categories: the 14 of CheXpert (Irvin et al. 2019), in CheXbert's order, and the 4 auxiliary ones that the
field's annotation files add, which together make the paper's K = 18 (section 3.3).
Entities and positions: the 75 and 51 words of AGXNet (Yu et al. 2022, the paper's [42]) in MedKLIP's order.
"""

CHEXPERT_CATEGORIES = (
    "enlarged cardiomediastinum",
    "cardiomegaly",
    "lung opacity",
    "lung lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "pleural effusion",
    "pleural other",
    "fracture",
    "support devices",
    "no finding",
)
AUXILIARY_CATEGORIES = (
    "aorta abnormality",
    "bone/spine abnormality",
    "hemidiaphragm abnormality",
    "lung volume abnormality",
)
CATEGORIES = CHEXPERT_CATEGORIES + AUXILIARY_CATEGORIES
NO_FINDING = CHEXPERT_CATEGORIES.index("no finding")

# Head classes: above 10 % of the MIMIC-CXR test set (supplement, Table 4). The rest are tail.
HEAD_CATEGORIES = (
    "enlarged cardiomediastinum",
    "cardiomegaly",
    "lung opacity",
    "edema",
    "atelectasis",
    "pleural effusion",
    "support devices",
)
# The five that CheXpert's leaderboard scores, and "micro-5", "macro-5" with it.
FIVE_CATEGORIES = ("cardiomegaly", "edema", "consolidation", "atelectasis", "pleural effusion")

BLANK, POSITIVE, NEGATIVE, UNCERTAIN = range(4)
STATUSES = ("blank", "positive", "negative", "uncertain")
STATUS_TOKENS = ("[BLA]", "[POS]", "[NEG]", "[UNC]")
DECODER_START_TOKEN = "[DEC]"

# fmt: off
ENTITIES = (
    "normal", "clear", "sharp", "sharply", "unremarkable", "intact", "stable", "free", "effusion",
    "opacity", "pneumothorax", "edema", "atelectasis", "tube", "consolidation", "process",
    "abnormality", "enlarge", "tip", "low", "pneumonia", "line", "congestion", "catheter",
    "cardiomegaly", "fracture", "air", "tortuous", "lead", "disease", "calcification",
    "prominence", "device", "engorgement", "picc", "clip", "elevation", "expand", "nodule",
    "wire", "fluid", "degenerative", "pacemaker", "thicken", "marking", "scar", "hyperinflate",
    "blunt", "loss", "widen", "collapse", "density", "emphysema", "aerate", "mass", "crowd",
    "infiltrate", "obscure", "deformity", "hernia", "drainage", "distention", "shift", "stent",
    "pressure", "lesion", "finding", "borderline", "hardware", "dilation", "chf",
    "redistribution", "aspiration", "tail_abnorm_obs", "excluded_obs",
)
# The first eight say that something is normal: the presence of an entity is not pathology.
NORMAL_ENTITIES = ENTITIES[:8]
POSITIONS = (
    "trachea", "left_hilar", "right_hilar", "hilar_unspec", "left_pleural", "right_pleural",
    "pleural_unspec", "heart_size", "heart_border", "left_diaphragm", "right_diaphragm",
    "diaphragm_unspec", "retrocardiac", "lower_left_lobe", "upper_left_lobe", "lower_right_lobe",
    "middle_right_lobe", "upper_right_lobe", "left_lower_lung", "left_mid_lung",
    "left_upper_lung", "left_apical_lung", "left_lung_unspec", "right_lower_lung",
    "right_mid_lung", "right_upper_lung", "right_apical_lung", "right_lung_unspec", "lung_apices",
    "lung_bases", "left_costophrenic", "right_costophrenic", "costophrenic_unspec",
    "cardiophrenic_sulcus", "mediastinal", "spine", "clavicle", "rib", "stomach", "right_atrium",
    "right_ventricle", "aorta", "svc", "interstitium", "parenchymal", "cavoatrial_junction",
    "cardiopulmonary", "pulmonary", "lung_volumes", "unspecified", "other",
)
# fmt: on
UNSPECIFIED_POSITION = POSITIONS.index("unspecified")

"""Invented reports in several languages, and small sets of them with images: what no labeler of ours can read."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

GERMAN = [
    "Kein Pneumothorax. Kein Pleuraerguss. Herz normal groß.",
    "Der Herzschatten ist nicht verbreitert. Lungen beidseits frei belüftet, keine pneumonischen Infiltrate.",
    "Thorax p.a. und seitlich: Zwerchfelle glatt begrenzt. Randwinkel frei. Hili unauffällig. Keine Stauung.",
    "Größenprogredienter Pleuraerguss links mit Kompressionsatelektase. ZVK rechts jugulär, Spitze 2,5 cm tief.",
    "Zustand nach Sternotomie. Kardiomegalie mit pulmonalvenöser Stauung, kein Erguss.",
    "Fleckige Verschattungen im rechten Unterlappen, vereinbar mit einer Pneumonie.",
    "Mediastinum mittelständig, nicht verbreitert. Aorta elongiert und sklerosiert.",
    "Kein Nachweis eines Pneumothorax nach Entfernung der Drainage.",
]
SPANISH = [
    "No se observa neumotórax ni derrame pleural. Silueta cardíaca de tamaño normal.",
    "Cardiomegalia. Redistribución vascular. Derrame pleural bilateral de pequeña cuantía.",
    "Campos pulmonares sin infiltrados ni consolidaciones. Senos costofrénicos libres.",
    "Índice cardiotorácico dentro de la normalidad. Aorta elongada. Cambios degenerativos en columna dorsal.",
    "sin hallazg signific . aument densid base izquierd compatibl con atelectasi . no derram",
    "Patrón intersticial bilateral. Catéter venoso central con extremo en vena cava superior.",
    "¿Opacidad en lóbulo inferior derecho? Compatible con neumonía. Control evolutivo.",
    "Nódulo pulmonar en lóbulo superior izquierdo. No se identifican adenopatías mediastínicas.",
]
FRENCH = [
    "Pas d'épanchement pleural. Pas de pneumothorax. Silhouette cardio-médiastinale de taille normale.",
    "Opacité alvéolaire du lobe inférieur droit évocatrice de pneumopathie infectieuse.",
    "Cardiomégalie avec surcharge vasculaire. Comblement des culs-de-sac pleuraux.",
    "Absence de foyer parenchymateux. Coupoles diaphragmatiques bien visibles.",
    "Les poumons sont bien expandus, sans anomalie de la transparence. L’aorte est déroulée.",
    "Sonde d'intubation en place à 3 cm de la carène. Voie veineuse centrale « jugulaire » droite.",
    "Distension thoracique. Syndrome interstitiel bilatéral prédominant aux bases.",
    "Nodule du lobe supérieur gauche à contrôler par scanner.",
]
CHINESE = [
    "双肺纹理清晰，未见明显实质性病变。心影大小正常。双侧膈面光滑，肋膈角锐利。",
    "未见气胸。未见胸腔积液。",
    "右下肺斑片状阴影，考虑肺炎。心影增大，主动脉迂曲钙化。",
    "左侧少量胸腔积液，深约 2.5 cm。骨质未见异常。",
    "两肺野透亮度增高，肋间隙增宽，符合肺气肿改变。",
    "气管插管末端位于隆突上方约３厘米。",
    "纵隔居中，肺门不大。",
    "双肺散在纤维条索影，较前片无明显变化。",
]
OTHERS = {
    "Portuguese": [
        "Não há derrame pleural ou pneumotórax. Área cardíaca normal.",
        "Pulmões expandidos, sem notável opacidade.",
    ],
    "Vietnamese": ["Không thấy tràn dịch màng phổi. Bóng tim không to.", "Mờ đáy phổi phải, theo dõi viêm phổi."],
    "Japanese": [
        "両側肺野に明らかな浸潤影を認めません。心拡大なし。胸水なし。",
        "右下肺野に浸潤影を認め、肺炎が疑われます。CTR 55%。",
    ],
    "Korean": ["폐실질에 이상 소견 없음. 심장 크기 정상. 흉수 없음.", "우하엽에 경화 소견이 보임. 폐렴 가능성이 있음."],
    "Thai": ["ไม่พบน้ำในช่องเยื่อหุ้มปอด หัวใจไม่โต", "พบเงาทึบที่ปอดขวาล่าง สงสัยปอดอักเสบ"],
    "Hindi": ["हृदय का आकार सामान्य है। फेफड़े स्पष्ट हैं।", "दाहिने फेफड़े में धब्बा दिखता है।"],
    "Russian": [
        "Лёгкие без очаговых теней. Сердце не расширено. Синусы свободны.",
        "Жидкость в левой плевральной полости, без пневмоторакса.",
    ],
    "Dutch": [
        "Geen pneumothorax. Geen pleuravocht. Normale hartgrootte.",
        "Status na sternotomie. Toename van consolidatie in de rechter onderkwab.",
    ],
}
LANGUAGES = {"German": GERMAN, "Spanish": SPANISH, "French": FRENCH, "Chinese": CHINESE, **OTHERS}
TELEGRAPHIC = [
    "CM. No eff. No PTX. Lungs clear.",
    "Small R eff, stable. ETT 3 cm above carina. NGT in stomach.",
    "Heart nl. Lungs cl. No acute dz.",
    "Low lung vols, bibasilar atx. No ptx.",
    "Unchanged.",
    "Lines stable. Bilat infiltrates worse R>L.",
    "s/p CABG. mild cardiomeg. no chf.",
]
HIDDEN = [
    "XXXX XXXX. Comparison to XXXX. The lungs are clear of XXXX. No XXXX pneumothorax.",
    "___ year old man with ___. Compared to ___, the XXXX is unchanged. _____.",
]


def write_set(folder: Path, reports: list[str], labelled: bool = False, size: int = 64) -> Path:
    """A set of studies, three for each report, in train, val and test; grey images that differ from report to report.
    labelled: with 14 statuses each. Returns the annotation's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for i, report in enumerate(reports * 3):
        rng = np.random.default_rng(i % len(reports))
        pixels = np.kron(rng.integers(0, 255, (4, 4)), np.ones((size // 4, size // 4))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        split = list(splits)[i // len(reports)]
        study = {
            "id": f"s{i}",
            "image_path": [f"{i}.png"],
            "report": report,
            "subject_id": f"p{i}",
            "study_id": f"s{i}",
        }
        splits[split].append(study | {"labels": rng.integers(0, 4, 14).tolist()} if labelled else study)
    path = folder / "annotation.json"
    path.write_text(json.dumps(splits, ensure_ascii=False), encoding="utf-8")
    return path

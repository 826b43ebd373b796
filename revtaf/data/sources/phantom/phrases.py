"""The wording of phantom reports: sentences per finding, in the words that rule labelers know.

A sentence list is used cyclically: the n-th reading room has the n-th sentence as its favourite.
`{size}` is small, moderate or large and `{grade}` mild, moderate or severe; `{where}` and `{lung}` are
adjectives of place ("left basilar", "left lower lobe"), `{region}` is a noun ("the left lower lobe"), and
`{side}` is right, left or bilateral.
"""

from __future__ import annotations

SIZES = ("small", "moderate", "large")
GRADES = ("mild", "moderate", "severe")

# Per (side, zone): an adjective, a noun that serves as one, and a noun with its article.
PLACES = {
    ("right", "upper"): ("right apical", "right upper lobe", "the right upper lobe"),
    ("right", "mid"): ("right mid lung", "right middle lobe", "the right middle lobe"),
    ("right", "lower"): ("right basilar", "right lower lobe", "the right lower lobe"),
    ("left", "upper"): ("left apical", "left upper lobe", "the left upper lobe"),
    ("left", "mid"): ("left mid lung", "left mid lung", "the left mid lung"),
    ("left", "lower"): ("left basilar", "left lower lobe", "the left lower lobe"),
    ("bilateral", "upper"): ("biapical", "bilateral upper lobe", "both upper lobes"),
    ("bilateral", "mid"): ("bilateral mid lung", "bilateral perihilar", "both mid lungs"),
    ("bilateral", "lower"): ("bibasilar", "bilateral lower lobe", "both lower lobes"),
}

POSITIVE_SENTENCES = {
    "enlarged cardiomediastinum": (
        "The mediastinum is widened.",
        "{grade} widening of the mediastinum.",
        "The mediastinal contours are enlarged.",
        "The cardiomediastinal silhouette is enlarged.",
        "There is {grade} widening of the mediastinal silhouette.",
        "Prominent superior mediastinum, {grade}ly wider than expected.",
    ),
    "cardiomegaly": (
        "There is {grade} cardiomegaly.",
        "The heart is {grade}ly enlarged.",
        "The cardiac silhouette is {grade}ly enlarged.",
        "{grade} cardiomegaly is noted.",
        "Enlarged heart.",
        "The cardiac silhouette remains {grade}ly enlarged, accentuated by portable technique.",
    ),
    "lung opacity": (
        "There is {where} opacity.",
        "Patchy {where} opacities are noted.",
        "Patchy opacity in {region}.",
        "{where} airspace opacity is seen.",
        "There is a hazy opacity projecting over {region}.",
        "Ill defined {where} opacity partially obscures the vessels.",
        "Heterogeneous {where} opacities again demonstrated.",
    ),
    "lung lesion": (
        "There is a {kind} in {region}.",
        "A rounded {kind} is seen in {region}.",
        "{lung} {kind}.",
        "A {kind} projects over {region}.",
        "There is a well defined {lung} {kind}.",
        "Solitary {lung} {kind} with lobulated margins, for which further evaluation with ct is recommended.",
    ),
    "edema": (
        "There is {grade} pulmonary edema.",
        "{grade} pulmonary edema is present.",
        "{grade} interstitial pulmonary edema.",
        "Findings are consistent with {grade} pulmonary edema.",
        "Perihilar haziness compatible with {grade} edema.",
        "{grade} edema with perihilar predominance suggests fluid overload.",
    ),
    "consolidation": (
        "There is {lung} consolidation.",
        "Dense consolidation in {region}.",
        "{lung} consolidation is present.",
        "Focal consolidation is seen in {region}.",
        "Confluent {where} consolidation with air bronchograms.",
        "Extensive {lung} consolidation obscuring adjacent structures.",
    ),
    "pneumonia": (
        "There is {lung} pneumonia.",
        "Findings consistent with {lung} pneumonia.",
        "{lung} pneumonia is present.",
        "{where} pneumonia.",
        "There is pneumonia in {region}.",
        "{lung} pneumonia, to be followed until resolution.",
    ),
    "atelectasis": (
        "There is {grade} {where} atelectasis.",
        "{grade} {where} atelectasis is noted.",
        "{where} linear atelectasis.",
        "Bands of {where} subsegmental atelectasis.",
        "There are streaky bands of {where} atelectasis.",
        "Volume loss with {grade} {where} atelectasis.",
        "Crowding of bronchovascular structures due to {where} atelectasis.",
    ),
    "pneumothorax": (
        "There is a {size} {side} pneumothorax.",
        "{size} {side} apical pneumothorax.",
        "A {size} {side} pneumothorax is present.",
        "{size} {side} pneumothorax with visible pleural reflection.",
        "There is a {size} {side} apical pneumothorax.",
        "{size} {side} pneumothorax without evidence of tension or shift.",
    ),
    "pleural effusion": (
        "{there} {a_size} {side} pleural effusion{s}.",
        "{size} {side} pleural effusion{s}.",
        "{size} {side} pleural effusion{s} {are} present.",
        "{size} layering {side} effusion{s}.",
        "There is blunting of the {side} costophrenic angle{s} compatible with {a_size} pleural effusion{s}.",
        "{size} {side} pleural effusion{s} tracking into the fissure.",
    ),
    "pleural other": (
        "There is {side} pleural thickening.",
        "{grade} {side} pleural thickening is noted.",
        "{where} pleural thickening.",
        "There is chronic {where} pleural thickening.",
        "{side} pleural thickening is seen.",
        "Long standing {side} pleural thickening from prior surgery.",
    ),
    "fracture": (
        "There is a displaced {side} rib fracture.",
        "Displaced {side} rib fracture is noted.",
        "{side} rib fracture.",
        "A {side} rib fracture with mild displacement is seen.",
        "There is a healing {side} rib fracture.",
        "Old {side} rib fracture with callus formation.",
    ),
    ("aorta abnormality", "tortuous"): (
        "The aorta is tortuous.",
        "Tortuous aorta.",
        "The thoracic aorta is {grade}ly tortuous.",
        "There is a tortuous thoracic aorta.",
        "The descending aorta is tortuous.",
        "Unfolded and tortuous thoracic aorta.",
    ),
    ("aorta abnormality", "calcified"): (
        "There is atherosclerotic calcification of the aorta.",
        "Atherosclerotic calcification of the aortic knob is noted.",
        "The aortic knob is calcified.",
        "Aortic calcification.",
        "Atherosclerotic calcification of the aortic arch is present.",
        "Dense atherosclerotic calcification along the aortic arch.",
    ),
    ("bone/spine abnormality", "degenerative"): (
        "There are degenerative changes of the spine.",
        "Degenerative changes of the thoracic spine are noted.",
        "{grade} degenerative changes in the thoracic spine.",
        "Degenerative changes of the spine.",
        "There are multilevel degenerative changes of the thoracic spine.",
        "Degenerative changes with anterior osteophytes in the midthoracic spine.",
    ),
    ("bone/spine abnormality", "scoliosis"): (
        "There is scoliosis of the thoracic spine.",
        "{grade} thoracic scoliosis is noted.",
        "{grade} scoliosis.",
        "Scoliosis of the spine is present.",
        "There is {grade} scoliosis of the spine.",
        "S shaped scoliosis with rotation of the vertebral bodies.",
    ),
    "hemidiaphragm abnormality": (
        "There is an elevated {side} hemidiaphragm.",
        "The {side} hemidiaphragm is elevated.",
        "Elevated {side} hemidiaphragm.",
        "Elevation of the {side} hemidiaphragm is noted.",
        "There is {grade} elevation of the {side} hemidiaphragm.",
        "Chronic eventration with an elevated {side} hemidiaphragm.",
    ),
    ("lung volume abnormality", "low"): (
        "Low lung volumes.",
        "Lung volumes are low.",
        "There are low lung volumes.",
        "Low lung volumes are present.",
        "The lungs are hypoinflated with low lung volumes.",
        "Shallow inspiration with low lung volumes.",
    ),
    ("lung volume abnormality", "hyperinflated"): (
        "The lungs are hyperinflated.",
        "Hyperinflated lungs.",
        "The lungs are hyperinflated with flattened diaphragms.",
        "Hyperinflation of the lungs is noted.",
        "There is {grade} hyperinflation of the lungs.",
        "Hyperinflated lungs suggest underlying chronic obstructive disease.",
    ),
}

UNCERTAIN_SENTENCES = {
    "enlarged cardiomediastinum": (
        "Possible widening of the mediastinum.",
        "The mediastinum may be slightly widened.",
    ),
    "cardiomegaly": ("Borderline heart size.", "Possible mild cardiomegaly."),
    "lung opacity": ("Possible subtle {where} opacity.", "Questionable subtle opacity in {region}."),
    "lung lesion": ("Possible nodule in {region}.", "Questionable small {lung} nodule."),
    "edema": ("Possible mild pulmonary edema.", "Mild pulmonary edema cannot be excluded."),
    "consolidation": ("Possible early {lung} consolidation.", "Questionable {lung} consolidation."),
    "pneumonia": ("Possible {lung} pneumonia.", "Early {lung} pneumonia cannot be excluded."),
    "atelectasis": ("Possible mild {where} atelectasis.", "Probable minimal {where} atelectasis."),
    "pneumothorax": ("Possible tiny {side} apical pneumothorax.", "Questionable tiny {side} pneumothorax."),
    "pleural effusion": (
        "Possible trace {side} pleural effusion{s}.",
        "Trace {side} pleural effusion{s} cannot be excluded.",
    ),
    "pleural other": ("Possible {side} pleural thickening.", "Questionable {side} pleural thickening."),
    "fracture": ("Possible {side} rib fracture.", "Questionable nondisplaced {side} rib fracture."),
    "hemidiaphragm abnormality": ("Possible mild elevation of the {side} hemidiaphragm.",),
}

# An opacity and what causes it in one sentence: surely, or perhaps.
CAUSED_SENTENCES = {
    "pneumonia": (
        "{where} opacity compatible with pneumonia.",
        "Patchy opacity in {region} consistent with pneumonia.",
    ),
    "consolidation": (
        "{where} opacity compatible with consolidation.",
        "Dense opacity in {region} consistent with consolidation.",
    ),
    "atelectasis": (
        "{where} opacities compatible with atelectasis.",
        "Streaky {where} opacities consistent with atelectasis.",
    ),
    "edema": (
        "Bilateral hazy opacities compatible with {grade} pulmonary edema.",
        "Bilateral perihilar opacities consistent with {grade} edema.",
    ),
}
HEDGED_CAUSE_SENTENCES = (
    "{where} opacity may represent {causes}.",
    "Patchy {where} opacity, which may reflect {causes}.",
    "Opacity in {region} may represent {causes}.",
)

DEVICE_SENTENCES = {
    "pacemaker": (
        "Left chest wall pacemaker is in place.",
        "Left pectoral pacemaker with intact leads.",
        "A left sided pacemaker is present with leads in expected position.",
    ),
    "endotracheal tube": (
        "The endotracheal tube is in standard position.",
        "Endotracheal tube terminates above the carina.",
        "The endotracheal tube tip is above the carina.",
    ),
    "enteric tube": (
        "Enteric tube courses below the diaphragm.",
        "The enteric tube tip is in the stomach.",
        "Nasogastric tube ends in the stomach.",
    ),
    "jugular": (
        "Right internal jugular central venous catheter ends in the mid svc.",
        "Right internal jugular catheter tip is in the svc.",
        "Right central venous catheter terminates in the low svc.",
    ),
    "picc": (
        "Left picc terminates in the svc.",
        "Left picc tip is in the low svc.",
        "Left sided picc ends in the mid svc.",
    ),
    "port": (
        "Right chest port catheter ends in the svc.",
        "Right chest wall port with catheter tip in the svc.",
        "Right sided port catheter terminates at the cavoatrial junction.",
    ),
}
# Both tubes of a ventilated patient in one sentence, as they always come together.
TUBES_SENTENCES = (
    "Endotracheal and enteric tubes are in standard position.",
    "The endotracheal tube and enteric tube are in place.",
    "Endotracheal tube above the carina and enteric tube in the stomach.",
)

"""Adjectives inside a finding: no number of them breaks a phrase, and none carries it into another statement."""

import pytest
from statuses import wrong

from revtaf.data.text import clean_report

WITHIN = [
    ("Deformity of the posterior left sixth and seventh ribs.", "b1"),
    ("Deformity of the old healed mildly displaced posterolateral left fifth, sixth, seventh and eighth ribs.", "b1"),
    ("Deformed right lateral seventh rib.", "b1"),
    ("Loss of the anterior height of several mid and lower thoracic vertebral bodies.", "b1"),
    ("Narrowing of multiple mid thoracic intervertebral disc spaces.", "b1"),
    ("Disk spaces are mildly narrowed.", "b1"),
    ("Irregularity of the superior endplate of T8.", "b1"),
    ("Sclerotic, well circumscribed, benign appearing small focus in the left rib.", "b1"),
    ("No acute displaced or nondisplaced osseous, thoracic, or visible abnormality.", "b2"),
    ("Widening of the right paratracheal superior portion of the mediastinum.", "w1"),
    ("The mediastinum is mildly but definitely widened.", "w1"),
    ("Enlargement of the partially visualized and rotated cardiac silhouette.", "m1"),
    ("Left ventricular mild enlargement.", "m1"),
    ("The heart is not significantly or markedly or otherwise enlarged.", "m2"),
    ("Heart size is not definitely or significantly increased.", "m2"),
    ("Thickening of the left lateral and posterior costal pleura.", "q1"),
    ("The pleura is mildly thickened.", "q1"),
    ("Pleural partially calcified bilateral plaques.", "q1"),
    ("No pleural effusion or thickening.", "q2 e2"),
    ("Thickening of both the major and minor fissures.", "q1"),
    ("Hernia through a defect in the posterior medial left hemidiaphragm.", "h1"),
    ("Flattening of both the right and left hemidiaphragms.", "h1"),
    ("Low bilateral right greater than left lung volumes.", "v1"),
    ("Decreased volume of the left lung.", "v1"),
    ("Pulmonary interstitial and vascular mild congestion.", "d1"),
    ("Engorgement of the central pulmonary vasculature.", "d1"),
    ("Nodular ill-defined right upper lobe opacity.", "l1"),
    ("Pulmonary left upper lobe lesion.", "l1"),
    ("Lesion within the right upper lobe.", "l1"),
    ("Airspace multifocal disease.", "o1"),
    ("Interstitial coarse bibasilar markings.", "o1"),
    ("Collapse of several old mid and lower thoracic vertebral bodies.", "a0"),
    ("Prior old healed remote right upper lobe granulomatous disease and infection.", "p0"),
    ("Ectasia of the ascending, arch and descending thoracic aorta.", "t1"),
    ("Internal surgical fixation of the humerus.", "s1"),
    ("Pneumonia cannot be entirely or confidently excluded.", "p3"),
    ("Pneumothorax is no longer clearly or definitely seen.", "x2"),
    ("The pneumothorax has now almost completely and fully resolved.", "x2"),
    ("No significant or appreciable interval change in the effusion.", "e1"),
    ("No large or otherwise clinically significant effusion.", "e2"),
    ("Pneumonia is considered very unlikely.", "p2"),
]
# What stands near a word and belongs to another statement.
APART = [
    ("Deformity of the heart, and ribs are intact.", "b2"),
    ("Large left effusion, normal lung volumes.", "v2 e1"),
    ("Small area of platelike atelectasis in the left mid lung.", "v0 a1"),
    ("Apical opacity and peribronchial thickening.", "q0"),
    ("Widening of the trachea. The mediastinum is normal.", "w2"),
    ("Pulmonary nodule without vascular congestion.", "d2 l1"),
    ("Thickened septal lines and pleural effusion.", "q0 e1"),
    ("Chronic changes with superimposed infection.", "p1"),
    ("Cervical spine and ribs are intact.", "b2"),
    ("Scattered nodular opacities, calcified granulomas.", "l1"),
    ("An opacity that is not well seen on the lateral view.", "o3"),
    ("The effusion has partially resolved.", "e1"),
]


@pytest.mark.parametrize(("report", "expected"), WITHIN + APART)
def test_a_phrase_holds_its_adjectives_and_nothing_else(report, expected):
    assert not wrong(report, expected)
    assert not wrong(clean_report(report), expected)

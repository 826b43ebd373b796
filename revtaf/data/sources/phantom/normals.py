"""The wording of what is normal in phantom reports: denials, and sentences without any category."""

from __future__ import annotations

# Normal sentences: what each one denies. One may be said only if all that it denies is absent.
NORMAL_SENTENCES = {
    ("consolidation", "pleural effusion", "pneumothorax"): (
        "There is no focal consolidation, pleural effusion or pneumothorax.",
        "No focal consolidation, pleural effusion, or pneumothorax is seen.",
        "No focal consolidation, effusion, or pneumothorax.",
        "There is no confluent consolidation, sizable pleural effusion or pneumothorax.",
    ),
    ("pleural effusion", "pneumothorax"): (
        "There is no pleural effusion or pneumothorax.",
        "No pleural effusion or pneumothorax is seen.",
        "No pneumothorax or pleural effusion.",
        "No appreciable pleural effusion or pneumothorax.",
    ),
    ("pneumothorax",): ("There is no pneumothorax.", "No pneumothorax is seen.", "No pneumothorax."),
    ("pleural effusion",): (
        "There is no pleural effusion.",
        "No pleural effusion is seen.",
        "No large effusion.",
    ),
    ("consolidation",): (
        "There is no focal consolidation.",
        "No focal consolidation is seen.",
        "No focal consolidation.",
    ),
    ("cardiomegaly", "enlarged cardiomediastinum"): (
        "The heart size and mediastinal contours are normal.",
        "Heart size and mediastinal contours are within normal limits.",
        "Normal heart size and mediastinal contours.",
        "The heart is not enlarged and the mediastinal contours are within normal limits.",
    ),
    ("enlarged cardiomediastinum",): (
        "The cardiomediastinal silhouette is within normal limits.",
        "The mediastinal contours are unremarkable.",
        "The mediastinal contours are normal.",
    ),
    ("cardiomegaly",): (
        "The heart size is normal.",
        "Heart size is within normal limits.",
        "Normal heart size.",
    ),
    ("edema",): (
        "There is no pulmonary edema.",
        "No evidence of pulmonary edema.",
        "There is no pulmonary vascular congestion or edema.",
        "No overt pulmonary edema is identified.",
    ),
    ("pneumonia",): ("There is no evidence of pneumonia.", "No evidence of pneumonia.", "No pneumonia."),
    ("fracture",): (
        "No displaced fracture is seen.",
        "There is no displaced rib fracture.",
        "No acute fracture.",
    ),
    ("lung lesion",): (
        "No pulmonary nodule is seen.",
        "There is no nodule or mass.",
        "No nodule or mass.",
    ),
    ("atelectasis",): ("There is no atelectasis.", "No atelectasis.", "No evidence of atelectasis."),
    ("lung opacity",): ("There is no focal opacity.", "No focal opacity is seen.", "No focal opacities."),
    ("pleural other",): ("There is no pleural thickening.", "No pleural thickening is seen."),
    ("aorta abnormality",): ("The aorta is normal in caliber.", "The thoracic aorta is unremarkable."),
    ("bone/spine abnormality",): ("The thoracic spine is unremarkable.", "The spine is normal in alignment."),
    ("hemidiaphragm abnormality",): ("The hemidiaphragms are normal in position.",),
    ("lung volume abnormality",): (
        "The lungs are well expanded.",
        "Lung volumes are normal.",
        "The lungs are normally expanded.",
    ),
}
CLEAR_LUNGS = (
    "The lungs are clear.",
    "The lungs are clear bilaterally.",
    "Both lungs are clear.",
    "Clear lungs.",
    "The lung fields appear clear throughout.",
)
INTACT_BONES = (
    "The osseous structures are intact.",
    "Osseous structures are unremarkable.",
    "The imaged bones are grossly intact.",
    "Visualized bony structures appear normal for age.",
)
NORMAL_HILA = (
    "The hilar structures are normal.",
    "The pulmonary vasculature is normal.",
    "The hila are symmetric.",
    "The trachea is midline.",
)
NO_PROCESS = "No acute cardiopulmonary process."
PLAIN_SENTENCES = ("The upper abdomen is unremarkable.", "The soft tissues are normal.")
# How the image was taken, which a report may open with; one per view.
VIEWS = (
    "Single frontal view of the chest.",
    "Portable upright view of the chest was obtained.",
    "Comparison is made to the previous study.",
    "The patient is slightly rotated.",
    "Semi erect portable radiograph.",
)

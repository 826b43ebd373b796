"""Which column of a table holds what, and the columns of public sets by name.

The presets were written from code and documents that read these files, not from the files. A column that is not there
ends with the columns that are, and the option that names another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from revtaf.errors import UserError

NONE = "none"  # in place of a preset's column: the table has none


@dataclass(frozen=True)
class Columns:
    """Names of columns; several images or texts may stand in several columns. What is empty, the table does not say.

    folder: of the image, in front of its name. on: what `--join` joins by. strip: what image names begin with that is
    not below the folder of the images. note: what whoever prepares the set should know.
    """

    image: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    id: str = ""
    patient: str = ""
    study: tuple[str, ...] = ()
    split: str = ""
    view: str = ""
    folder: str = ""
    indication: str = ""
    impression: str = ""
    on: str = ""
    strip: str = ""
    note: str = ""

    def named(self) -> dict[str, str]:
        """option -> column, of all columns that are looked for."""
        found: dict[str, str] = {}
        for field in fields(self):
            if field.name in ("on", "strip", "note"):
                continue
            value = getattr(self, field.name)
            found |= {column: f"--{field.name}" for column in ([value] if isinstance(value, str) else value) if column}
        return found


PRESETS = {
    # df_chexpert_plus_240401.csv: one row an image; the images may be PNG where the path says JPEG.
    "chexpert_plus": Columns(
        image=("path_to_image",),
        report=("section_findings",),
        patient="deid_patient_id",
        study=("deid_patient_id", "patient_report_date_order"),
        split="split",
        view="frontal_lateral",
        indication="section_clinical_history",
        impression="section_impression",
    ),
    # PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv: one row an image, in folders 0 to 54 or unpacked flat.
    "padchest": Columns(
        image=("ImageID",),
        report=("Report",),
        patient="PatientID",
        study=("StudyID",),
        view="Projection",
        folder="ImageDir",
        note="PadChest's reports are Spanish, lower case and stemmed, which no labeler here reads. Train with "
        "knowledge.labeler=none; or make columns of statuses from the set's own Labels, give them with --labels, and "
        "train with knowledge.labeler=annotation.",
    ),
    # Kaggle's indiana_reports.csv --join indiana_projections.csv
    "indiana": Columns(
        image=("filename",),
        report=("findings",),
        patient="uid",
        study=("uid",),
        view="projection",
        indication="indication",
        impression="impression",
        on="uid",
        note="Kaggle numbers reports, not patients: uid stands for the patient.",
    ),
    # metadata/{train,valid,test}_metadata_view_position.json: an object of studies, each with lists of images and views
    "rexgradient": Columns(
        image=("ImagePath",),
        report=("Findings",),
        id="id",
        patient="PatientID",
        view="ImageViewPosition",
        indication="Indication",
        impression="Impression",
        strip="../deid_png/",
    ),
}


def columns_of(preset: str | None, **given: str | list[str] | None) -> Columns:
    """The preset's columns, those that are given in place of its own. UserError where no image or report is named."""
    if preset is not None and preset not in PRESETS:
        raise UserError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        several = not isinstance(value, str)
        chosen[name] = (() if several else "") if value in (NONE, [NONE]) else tuple(value) if several else value
    columns = replace(PRESETS[preset] if preset else Columns(), **chosen)
    for name in ("image", "report"):
        if not getattr(columns, name):
            raise UserError(f"--{name}: name the column, or a --preset ({', '.join(PRESETS)})")
    return columns

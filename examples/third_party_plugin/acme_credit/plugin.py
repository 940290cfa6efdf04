"""Registers what the distribution brings. Nothing heavy is imported here."""

from affidavit import hookimpl


@hookimpl
def affidavit_register(registry):
    registry.add("model", "acme.centroid", "acme_credit.centroid:Centroid", capabilities={"probabilities"})
    registry.add("recognizer", "DE_ID_CARD", "acme_credit.id_card:IdCard")

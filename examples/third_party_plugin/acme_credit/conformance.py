"""How the conformance kit tries what the plugin registers. The numbers are the ministry's specimens."""

from affidavit.testing import RecognizerCase

EXAMPLES = [("Ausweis L01X00T471, gültig", "L01X00T471"), ("Nr. T22000129", "T22000129")]
CASES = [RecognizerCase(name="DE_ID_CARD", examples={"DE_ID_CARD": EXAMPLES}, counterexamples=["L01X00T472", "A01X00T47", "FRÜHSTÜCK", "CHRLTTNBG"])]

"""Countries and top-level domains: tables that several recognizers share."""

from __future__ import annotations

_ISO_3166 = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH "
    "CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN "
    "GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI "
    "LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM "
    "PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD "
    "TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
COUNTRIES = frozenset(_ISO_3166.split())
"""Two-letter codes of ISO 3166-1."""

_GENERIC = (
    "com org net edu gov mil int info biz name pro mobi jobs tel asia cat coop aero museum travel eu uk su ac tp app dev io ai cloud online "
    "site shop store xyz tech blog page web wiki live life world today news email group team company agency studio design art club fun "
    "space website top vip win work works link click help support services solutions systems network digital media social chat games "
    "finance bank insurance money capital fund legal law health care doctor clinic academy school university education global "
    "international london berlin paris nyc tokyo moscow wien hamburg koeln bayern swiss scot wales local test example"
)
TOP_LEVEL_DOMAINS = frozenset(code.lower() for code in COUNTRIES) | frozenset(_GENERIC.split())
"""Country codes and the generic names that are common (IANA's root zone has some 1,400), and those reserved for examples (RFC 2606)."""

"""Which recognizers are bundled: names and where they are, so that reading this imports none of them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affidavit_governance.masking.recognizers.base import PatternRecognizer

BUNDLED: tuple[tuple[str, str], ...] = (
    # Contact and payment
    ("EMAIL_ADDRESS", "contact:Email"),
    ("CREDIT_CARD", "financial:CreditCard"),
    ("IBAN_CODE", "financial:Iban"),
    ("IP_ADDRESS", "network:IpAddress"),
    ("US_SSN", "america:UsSsn"),
    ("PHONE_NUMBER", "phones:Phone"),
    ("SWIFT_CODE", "financial:SwiftCode"),
    ("MAC_ADDRESS", "network:MacAddress"),
    ("URL", "contact:Url"),
    ("DOMAIN_NAME", "contact:DomainName"),
    # Europe, America, India; secrets and crypto addresses; dates of birth, postal codes, plates
    ("US_ITIN", "america:UsItin"),
    ("US_PASSPORT", "america:UsPassport"),
    ("US_DRIVER_LICENSE", "america:UsDriverLicense"),
    ("UK_NHS", "europe:UkNhs"),
    ("UK_NINO", "europe:UkNino"),
    ("DE_TAX_ID", "europe:DeTaxId"),
    ("ES_NIF", "europe:EsNif"),
    ("ES_NIE", "europe:EsNie"),
    ("IT_FISCAL_CODE", "europe:ItFiscalCode"),
    ("FR_NIR", "europe:FrNir"),
    ("PL_PESEL", "europe:PlPesel"),
    ("NL_BSN", "europe:NlBsn"),
    ("IN_AADHAAR", "india:InAadhaar"),
    ("IN_PAN", "india:InPan"),
    ("CRYPTO", "crypto:Crypto"),
    ("AWS_ACCESS_KEY", "credentials:AwsAccessKey"),
    ("AWS_SECRET_KEY", "credentials:AwsSecretKey"),
    ("AZURE_STORAGE_KEY", "credentials:AzureStorageKey"),
    ("GITHUB_TOKEN", "credentials:GithubToken"),
    ("GOOGLE_API_KEY", "credentials:GoogleApiKey"),
    ("SLACK_TOKEN", "credentials:SlackToken"),
    ("STRIPE_KEY", "credentials:StripeKey"),
    ("JWT", "credentials:JsonWebToken"),
    ("PRIVATE_KEY", "credentials:PrivateKey"),
    ("API_KEY", "credentials:ServiceKey"),
    ("NAMED_API_KEY", "passwords:NamedKey"),
    ("PASSWORD", "passwords:Password"),
    ("DATE_OF_BIRTH", "personal:DateOfBirth"),
    ("POSTAL_CODE", "personal:PostalCode"),
    ("ADDRESS_POSTAL_CODE", "personal:AddressPostalCode"),
    ("LICENSE_PLATE", "personal:LicensePlate"),
    # China, Hong Kong, Taiwan
    ("CN_RESIDENT_ID", "china:CnResidentId"),
    ("CN_USCC", "china:CnUscc"),
    ("CN_PASSPORT", "china:CnPassport"),
    ("CN_TRAVEL_PERMIT", "china:CnTravelPermit"),
    ("CN_LICENSE_PLATE", "china:CnLicensePlate"),
    ("HK_ID", "hongkong_taiwan:HkId"),
    ("MO_ID", "hongkong_taiwan:MoId"),
    ("TW_ID", "hongkong_taiwan:TwId"),
    ("CN_DATE_OF_BIRTH", "china_personal:CnDateOfBirth"),
    ("CN_POSTAL_CODE", "china_personal:CnPostalCode"),
)
"""Each recognizer's name, which is its entity's unless two find the same, with its module below this package and its class."""


def path(place: str) -> str:
    """The full import path of an entry of `BUNDLED`."""
    return f"{__package__}.{place}"


@cache
def patterns() -> tuple[PatternRecognizer, ...]:
    """The bundled recognizers, imported and made at the first call."""
    made = []
    for _, place in BUNDLED:
        module, _, name = path(place).partition(":")
        made.append(getattr(import_module(module), name)())
    return tuple(made)

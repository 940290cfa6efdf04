"""How fast personal data are found in English texts, next to Presidio's recognizers on the same entities and texts, in one run."""

from __future__ import annotations

import importlib
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from affidavit_governance.masking import scan_text, scan_values
from affidavit_governance.masking.recognizers.catalogue import patterns

TEXTS = Path(__file__).resolve().parents[2] / "../shared/data/pii_en_dev.json"
SIZES = (142, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
ROUNDS = 5
OURS_BYTES, THEIRS_BYTES = 1_000_000, 40_000
THEIRS_LARGEST = 1_000_000
MANY = 1_000_000

PEERS = {
    "EMAIL_ADDRESS": "EmailRecognizer",
    "CREDIT_CARD": "CreditCardRecognizer",
    "IBAN_CODE": "IbanRecognizer",
    "IP_ADDRESS": "IpRecognizer",
    "URL": "UrlRecognizer",
    "MAC_ADDRESS": "MacAddressRecognizer",
    "CRYPTO": "CryptoRecognizer",
    "US_SSN": "UsSsnRecognizer",
    "US_ITIN": "UsItinRecognizer",
    "US_PASSPORT": "UsPassportRecognizer",
    "US_DRIVER_LICENSE": "UsLicenseRecognizer",
    "UK_NHS": "NhsRecognizer",
    "UK_NINO": "UkNinoRecognizer",
    "ES_NIF": "EsNifRecognizer",
    "ES_NIE": "EsNieRecognizer",
    "IT_FISCAL_CODE": "ItFiscalCodeRecognizer",
    "PL_PESEL": "PlPeselRecognizer",
    "IN_PAN": "InPanRecognizer",
    "IN_AADHAAR": "InAadhaarRecognizer",
}
"""Presidio's pattern recognizer of each entity that both know."""

# A child of its own, so that the figures are not those of this process.
CHILD = """
import itertools, json, re, sys, time
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
start = time.perf_counter()
import affidavit_governance.masking
from affidavit_governance.masking import scan_text, scan_values
scan_text("ann@example.org")
ready = time.perf_counter() - start
texts = json.load(open(sys.argv[1]))
def highest():
    # Not ru_maxrss, which a child inherits from its parent.
    return int(re.search(r"VmHWM:\\s+([0-9]+)", open("/proc/self/status").read()).group(1))
peak = []
for i, item in enumerate(itertools.islice(itertools.cycle(texts), int(sys.argv[2]))):
    scan_text(item["text"])
    if i in (9_999, 99_999):
        peak.append(highest())
peak.append(highest())
print(json.dumps({"ready": ready, "torch": "torch" in sys.modules, "opened": opened, "peak": peak}))
"""


def megabytes_a_second(scan: Callable[[str], object], texts: Sequence[str]) -> float:
    """Of the processor's time, so that other work on the machine counts less."""
    start = time.process_time()
    for text in texts:
        scan(text)
    return sum(len(text.encode()) for text in texts) / (time.process_time() - start) / 1e6


def cut(whole: str, size: int, least: int) -> list[str]:
    """Pieces of `size` characters, `least` characters in all or a little more."""
    count = max(1, least // size)
    repeated = whole * (-(-size * count // len(whole)))
    return [repeated[i * size : (i + 1) * size] for i in range(count)]


def presidio() -> dict[str, Any] | None:
    """Presidio's recognizers by entity; None where it is not installed."""
    try:
        module = importlib.import_module("presidio_analyzer.predefined_recognizers")
    except ImportError:
        return None
    # One of their libraries looks for a newer list of domains on the net at its first call, and says at length that it found none.
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)
    kinds = {entity: getattr(module, name, None) for entity, name in PEERS.items()}
    made = {entity: kind() for entity, kind in kinds.items() if kind is not None}
    for entity, recognizer in made.items():
        recognizer.analyze("ann@example.org, https://example.org", [entity], None)
    return made


def main() -> None:
    """Print MB/s by size of text, alone and next to Presidio, then memory, start and sockets."""
    if not TEXTS.is_file():
        print(f"Skipped: the data are not beside this checkout ({TEXTS.name}).")
        return
    whole = " ".join(item["text"] for item in json.loads(TEXTS.read_text()))
    peers = presidio()
    if peers is None:
        print("Presidio is not installed (pip install 'affidavit[presidio]'), so it is left out.")
    same = tuple(recognizer for recognizer in patterns() if peers and recognizer.entity in peers)
    print(f"{len(patterns())} recognizers; {len(same)} of entities that Presidio's pattern recognizers know too; medians of {ROUNDS} rounds, in turn")
    print(f"{'text':>10} {'all, MB/s':>10} {'all together':>13} {'same, MB/s':>11} {'Presidio, MB/s':>15} {'ratio':>7}")
    speeds = {}
    for size in SIZES:
        speeds[size] = row(whole, size, same, peers)
    for at, way in enumerate(("one call for each text", "one call for all texts together")):
        from_1_kb = [both[at] for size, both in speeds.items() if size >= 1_000]
        spread = min(from_1_kb) / max(from_1_kb)
        print(f"all, {way}: lowest over highest from 1 KB to 10 MB {spread:.2f} (target: 0.80), lowest {min(from_1_kb):.1f} MB/s (target: 5)")
    if not Path("/proc/self/status").exists():
        print("Memory is not measured: this system has no /proc.")
        return
    child = subprocess.run([sys.executable, "-c", CHILD, str(TEXTS), str(MANY)], capture_output=True, text=True, check=True)
    found = json.loads(child.stdout)
    peak = ", ".join(f"{kib / 1024:.0f}" for kib in found["peak"])
    print(f"peak memory after 10,000, 100,000 and {MANY:,} texts: {peak} MiB")
    print(f"import and first text {found['ready']:.2f} s (target: 0.5), torch imported: {found['torch']}, sockets opened: {len(found['opened'])}")


def row(whole: str, size: int, same: Sequence[Any], peers: dict[str, Any] | None) -> tuple[float, float]:
    """Print one line; MB/s of all recognizers, with a call for each text and with one for all texts of the size together."""
    ours = cut(whole, size, OURS_BYTES)
    theirs = cut(whole, size, THEIRS_BYTES) if peers and size <= THEIRS_LARGEST else []
    every, together, common, peer = [], [], [], []
    for _ in range(ROUNDS):
        every.append(megabytes_a_second(scan_text, ours))
        start = time.process_time()
        scan_values(ours)
        together.append(sum(len(text.encode()) for text in ours) / (time.process_time() - start) / 1e6)
        if theirs and peers:
            # Presidio reads fewer bytes, because they would take minutes; both read the same ones here.
            common.append(megabytes_a_second(lambda text: scan_text(text, recognizers=same), theirs * 10 if size < 100_000 else theirs))
            peer.append(megabytes_a_second(lambda text: [r.analyze(text, [e], None) for e, r in peers.items()], theirs))
    speed, joined = statistics.median(every), statistics.median(together)
    if peer:
        ratio = statistics.median(a / b for a, b in zip(common, peer, strict=True))
        print(
            f"{size:>10,} {speed:10.2f} {joined:13.2f} {statistics.median(common):11.2f} {statistics.median(peer):15.3f} {ratio:7.1f}   (target: 20)"
        )
    else:
        print(f"{size:>10,} {speed:10.2f} {joined:13.2f} {'':>11} {'not run':>15}")
    return speed, joined

"""Currency codes that an event may carry, and their numbers in the stored state."""

from __future__ import annotations

from datetime import date
from typing import Final

_CODES = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW
KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR
MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR
SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX
USD UYU UYW UZS VED VES VND VUV WST XAD XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""

CURRENCIES: frozenset[str] = frozenset(_CODES.split())
"""ISO 4217 alphabetic codes in force, without funds codes and codes that have no minor unit
(precious metals, units of account, testing).

Source: ISO 4217 list one, published 2026-01-01 by SIX Financial Information, the maintenance
agency (https://www.six-group.com/en/products-services/financial-information/data-standards.html).
"""

_WITHDRAWN = """
AFA 2003-01 ANG 2025-03 AOR 2000-02 ATS 2002-03 AZM 2005-12 BEF 2002-03 BGL 2003-11 BYB 2001-01
BYR 2017-01 CSD 2006-10 CUC 2021-06 CYP 2008-01 DEM 2002-03 ECS 2000-09 EEK 2011-01 ESP 2002-03
FIM 2002-03 FRF 2002-03 GHC 2008-01 GRD 2002-03 HRK 2023-01 IEP 2002-03 ITL 2002-03 LTL 2014-12
LUF 2002-03 LVL 2014-01 MGF 2004-12 MRO 2017-12 MTL 2008-01 MZM 2006-06 NLG 2002-03 PTE 2002-03
ROL 2005-06 RUR 2004-01 SDD 2007-07 SIT 2007-01 SKK 2009-01 SLL 2023-12 SRG 2003-12 STD 2017-12
TMM 2009-01 TRL 2005-12 VEB 2008-01 VEF 2018-08 YUM 2003-07 ZMK 2012-12 ZWD 2008-08
ZWL 2024-09 BGN 2026-01
"""


def _withdrawals() -> dict[str, date]:
    words = _WITHDRAWN.split()
    first_days = (date.fromisoformat(f"{month}-01") for month in words[1::2])
    return {
        code: date(day.year + day.month // 12, day.month % 12 + 1, 1)
        for code, day in zip(words[::2], first_days, strict=True)
    }


WITHDRAWN: Final[dict[str, date]] = _withdrawals()
"""Former codes that shops' histories have, each with the first day after the month of withdrawal.

Source: ISO 4217 list three (historic denominations), same agency.
"""

HOME: Final = 0
"""Number of the reporting currency where the state does not say which it was: earlier versions
converted amounts when they came."""

_NUMBERED = """
USD EUR GBP JPY CNY INR AUD CAD CHF SEK NOK DKK PLN CZK HUF RON BGN TRY BRL MXN ARS CLP COP PEN ZAR
NGN KES EGP MAD ILS AED SAR QAR KWD SGD HKD TWD KRW THB MYR IDR PHP VND NZD RUB UAH KZT PKR BDT LKR
AFA AFN ALL AMD ANG AOA AOR ATS AWG AZM AZN BAM BBD BEF BGL BHD BIF BMD BND BOB BSD BTN BWP BYB BYN
BYR BZD CDF CRC CSD CUC CUP CVE CYP DEM DJF DOP DZD ECS EEK ERN ESP ETB FIM FJD FKP FRF GEL GHC GHS
GIP GMD GNF GRD GTQ GYD HNL HRK HTG IEP IQD IRR ISK ITL JMD JOD KGS KHR KMF KPW KYD LAK LBP LRD LSL
LTL LUF LVL LYD MDL MGA MGF MKD MMK MNT MOP MRO MRU MTL MUR MVR MWK MZM MZN NAD NIO NLG NPR OMR PAB
PGK PTE PYG ROL RSD RUR RWF SBD SCR SDD SDG SHP SIT SKK SLE SLL SOS SRD SRG SSP STD STN SVC SYP SZL
TJS TMM TMT TND TOP TRL TTD TZS UGX UYU UYW UZS VEB VED VEF VES VUV WST XAD XAF XCD XCG XOF XPF YER
YUM ZMK ZMW ZWD ZWG ZWL
"""

CODES: Final[tuple[str, ...]] = ("", *_NUMBERED.split())
"""Codes by their number in the stored state. Numbers never change: append new codes at the end."""

NUMBERS: Final[dict[str, int]] = {code: number for number, code in enumerate(CODES) if code}
"""The number of each code."""

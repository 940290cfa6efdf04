"""Makes ``data/pii_zh.json``: Chinese texts with personal data in known places. Run it to write the file anew; a test compares the two."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
TEMPLATES = DATA / "pii_zh_templates.txt"
FILE = DATA / "pii_zh.json"
COPIES = {"with personal data": 4, "without personal data": 3, "by hand": 1, "by hand, afterwards": 1}

SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹"
GIVEN = [
    "伟",
    "芳",
    "娜",
    "敏",
    "静",
    "丽",
    "强",
    "磊",
    "军",
    "洋",
    "勇",
    "艳",
    "杰",
    "娟",
    "涛",
    "明",
    "超",
    "秀英",
    "桂芳",
    "志强",
    "建华",
    "晓明",
    "文博",
    "子涵",
    "雨桐",
    "欣怡",
    "浩然",
    "思远",
    "婷婷",
    "国庆",
]
CITIES = [
    "北京市朝阳区",
    "上海市浦东新区",
    "广州市天河区",
    "深圳市南山区",
    "杭州市西湖区",
    "成都市武侯区",
    "武汉市洪山区",
    "南京市鼓楼区",
    "西安市雁塔区",
    "哈尔滨市南岗区",
]
ROADS = ["人民路", "解放大道", "中山北路", "建设街", "文一西路", "科技园路", "长江路", "和平街", "学院路", "滨河大道"]
COMPANIES = ["鑫源", "博睿", "华信", "恒通", "蓝海", "天成", "佳禾", "中润", "启明", "瑞丰"]
TRADES = ["科技有限公司", "贸易有限公司", "餐饮管理有限公司", "物流有限公司", "建筑工程有限公司", "文化传媒有限公司"]
REGIONS = [
    "110101",
    "110108",
    "120103",
    "130102",
    "140105",
    "210102",
    "220104",
    "230103",
    "310104",
    "310115",
    "320106",
    "330106",
    "340104",
    "350203",
    "370102",
    "410105",
    "420111",
    "430104",
    "440103",
    "440305",
    "450103",
    "500103",
    "510107",
    "520103",
    "530102",
    "610113",
    "620102",
    "650102",
]
MOBILE_HEADS = [
    "130",
    "131",
    "132",
    "133",
    "135",
    "136",
    "137",
    "138",
    "139",
    "145",
    "147",
    "150",
    "151",
    "152",
    "155",
    "157",
    "158",
    "159",
    "166",
    "170",
    "173",
    "176",
    "177",
    "178",
    "180",
    "181",
    "182",
    "183",
    "185",
    "186",
    "187",
    "188",
    "189",
    "191",
    "195",
    "198",
    "199",
]
AREAS = [
    "010",
    "020",
    "021",
    "022",
    "023",
    "024",
    "025",
    "027",
    "028",
    "029",
    "0311",
    "0371",
    "0431",
    "0512",
    "0531",
    "0571",
    "0574",
    "0591",
    "0592",
    "0731",
    "0755",
    "0757",
    "0851",
    "0871",
    "0898",
    "0991",
]
PLATES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
PLATE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
BANKS = ["621700", "622848", "621226", "622202", "622588", "621483", "621661", "622700", "623058", "622260"]
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
TAIWAN = {letter: value for value, letter in enumerate("ABCDEFGHJKLMNPQRSTUVXYWZIO", start=10)}


class Maker:
    """Draws the values of slots; the checks are computed here, apart from the code that the file tests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))

    def one(self, options: Any) -> Any:
        return options[int(self._random.random() * len(options))]

    def digits(self, count: int) -> str:
        return "".join(str(self.number(0, 9)) for _ in range(count))

    def born(self) -> str:
        return f"{self.number(1945, 2008)}{self.number(1, 12):02}{self.number(1, 28):02}"

    # -- personal data --------------------------------------------------------------------------------------------------------------

    def mobile(self, form: str) -> str:
        a, b, c = self.one(MOBILE_HEADS), self.digits(4), self.digits(4)
        mark = {"spaced": " ", "hyphen": "-", "country": self.one(["", " "])}.get(form, "")
        return ("+86" + self.one([" ", "", "-"]) if form == "country" else "") + mark.join((a, b, c))

    def landline(self, form: str) -> str:
        area = self.one(AREAS)
        rest = str(self.number(2, 8)) + self.digits(7 if len(area) == 3 or area in ("0755", "0571", "0512", "0371", "0731", "0757") else 6)
        return f"({area}){self.one(['', ' '])}{rest}" if form == "bracket" else f"{area}{self.one(['-', '-', ' '])}{rest}"

    def hotline(self, form: str) -> str:
        return f"{self.one(['400', '800'])}-{self.number(600, 899)}-{self.digits(4)}"

    def hkphone(self, form: str) -> str:
        return f"+852 {self.one('569')}{self.digits(3)} {self.digits(4)}"

    def id(self, form: str) -> str:
        region = self.one(["810000", "820000", "830000"]) if form == "permit" else self.one(REGIONS)
        if form == "foreign":
            region = "9" + self.one(["11", "31", "44"]) + self.one(["250", "276", "392", "840"])
        return self.dressed(checked_id(region + self.born() + f"{self.number(1, 999):03}"), form)

    def old_id(self, form: str) -> str:
        return self.one(REGIONS) + self.born()[2:] + f"{self.number(1, 999):03}"

    def uscc(self, form: str) -> str:
        organisation = self.one(["", "MA"]) + "".join(self.one("0123456789ABCDEFGHJKLMNPQRTUWXY") for _ in range(8))
        body = self.one(["91", "92", "91", "12", "51"]) + self.one(REGIONS) + organisation[:8]
        value = checked_uscc(body)
        return f"{value[:8]} {value[8:17]} {value[17:]}" if form == "spaced" else self.dressed(value, form)

    def card(self, form: str) -> str:
        head, size = (self.one(["4", "52"]), 16) if form == "visa" else (self.one(BANKS), self.one([16, 19, 19]))
        value = checked_card(head + self.digits(size - 1 - len(head)))
        groups = [value[at : at + 4] for at in range(0, size, 4)]
        return {"grouped": " ", "hyphen": "-"}[form].join(groups) if form in ("grouped", "hyphen") else self.dressed(value, form)

    def passport(self, form: str) -> str:
        return self.dressed(self.one(["E", "E", "G", "E" + self.one("ABCDEFGHJKLM")]).ljust(9, "#").replace("#", "{}").format(*self.digits(8)), form)

    def permit(self, form: str) -> str:
        return self.one(["C" + self.digits(8), "C" + self.one("ABCDEFGH") + self.digits(7), "W" + self.digits(8)])

    def home_permit(self, form: str) -> str:
        return self.one("HM") + self.digits(self.one([8, 8, 10]))

    def taiwan_permit(self, form: str) -> str:
        return "0" + self.digits(7)

    def plate(self, form: str) -> str:
        head, letter = self.one(PLATES), self.one("ABCDEFGHJKLM")
        if form == "green":
            return (
                head
                + letter
                + self.one([self.one("DFAB") + self.one(PLATE_LETTERS + "0123456789") + self.digits(4), self.digits(5) + self.one("DF")])
            )
        tail = list(self.digits(5))
        for _ in range(self.number(0, 2)):
            tail[self.number(0, 4)] = self.one(PLATE_LETTERS)
        value = f"{head}{letter}{ {'dot': '·', 'spaced': ' '}.get(form, '') }{''.join(tail)}"
        return self.dressed(value, form) if form == "wide" else value

    def email(self, form: str) -> str:
        user = self.one(["zhang", "liwei", "wang.fang", "xiao_ming", "chen", "hr", "finance", "lin-yu"]) + self.one(
            ["", self.digits(3), self.digits(6)]
        )
        return f"{user}@{self.one(['example.com', 'mail.example.cn', 'corp.example.com.cn', 'example.net'])}"

    def hkid(self, form: str) -> str:
        body = self.one(["", "W", "X"]) + self.one("ABCDEFGHKMPRVYZ") + self.digits(6)
        value = body + hk_check(body)
        return value if form == "bare" else f"{value[:-1]}({value[-1]})"

    def twid(self, form: str) -> str:
        body = self.one(list(TAIWAN)) + self.one("89" if form == "resident" else "12") + self.digits(7)
        return next(body + digit for digit in "0123456789" if tw_sum(body + digit) % 10 == 0)

    def moid(self, form: str) -> str:
        return f"{self.one('157')}/{self.digits(6)}/{self.digits(1)}" if form == "stroke" else f"{self.one('157')}{self.digits(6)}({self.digits(1)})"

    def dob(self, form: str) -> str:
        born = self.born()
        year, month, day = int(born[:4]), int(born[4:6]), int(born[6:])
        if form == "month":
            return self.one([f"{year}年{month}月", f"{year}-{month:02}"])
        return {"digits": born, "hyphen": f"{year}-{month:02}-{day:02}"}.get(form) or self.one(
            [f"{year}年{month}月{day}日", f"{year}年{month:02}月{day:02}日"]
        )

    def zip(self, form: str) -> str:
        return f"{self.number(10, 84)}{self.digits(4)}"

    def dressed(self, value: str, form: str) -> str:
        if form == "spaced":
            return f"{value[:6]} {value[6:14]} {value[14:]}"
        if form == "wide":
            return "".join(chr(ord(c) + 0xFEE0) if c.isascii() else c for c in value)
        return value.lower() if form == "lower" else value

    # -- other things ---------------------------------------------------------------------------------------------------------------

    def filler(self, slot: str) -> str:
        year, month, day = self.number(2015, 2026), self.number(1, 12), self.number(1, 28)
        made: dict[str, Callable[[], Any]] = {
            "name": lambda: self.one(SURNAMES) + self.one(GIVEN),
            "city": lambda: self.one(CITIES),
            "road": lambda: self.one(ROADS),
            "company": lambda: self.one(CITIES)[:2] + self.one(COMPANIES) + self.one(TRADES),
            "sex": lambda: self.one("男女"),
            "ethnic": lambda: self.one(["汉", "回", "满", "壮"]),
            "number": lambda: self.number(1, 999),
            "year": lambda: year,
            "code": lambda: self.digits(self.number(4, 6)),
            "price": lambda: f"{self.number(1, 99999)}{self.one(['', '.00', '.5', f'.{self.digits(2)}'])}",
            "date": lambda: self.one([f"{year}年{month}月{day}日", f"{year}-{month:02}-{day:02}", f"{year}/{month}/{day}", f"{month}月{day}日"]),
            "time": lambda: f"{self.number(0, 23):02}:{self.number(0, 59):02}{self.one(['', f':{self.number(0, 59):02}'])}",
            "order": lambda: unlike_id(f"{year}{month:02}{day:02}{self.digits(10)}"),
            "track": lambda: self.one(["", "YT", "JD00", "75", "43"]) + self.digits(self.one([12, 13])),
            "track_sf": lambda: "SF" + self.digits(13),
            "flow": lambda: self.one([f"{year}{month:02}{day:02}{self.digits(20)}", self.digits(10), f"42000{self.digits(23)}"]),
            "flow8": lambda: str(self.number(1, 9)) + self.digits(7),
            "flow9": lambda: str(self.number(2, 9)) + self.digits(8),
            "sku": lambda: self.one([f"{self.one('ABKTX')}{self.digits(3)}-{self.digits(4)}", f"JD{self.digits(7)}", f"{self.digits(3)}-{self.one('ABC')}{self.digits(2)}"]),
            "isbn": lambda: f"978-7-{self.digits(3)}-{self.digits(5)}-{self.digits(1)}",
            "ean": lambda: "69" + self.digits(11),
            "version": lambda: f"{self.number(1, 14)}.{self.number(0, 20)}.{self.number(0, 30)}",
            "num11": lambda: self.one(["12", "10", "26", "57", "83"]) + self.digits(9),
            "bad_id": lambda: wrong(self.id("")),
            "bad_card": lambda: wrong(self.card("")),
            "bad_uscc": lambda: wrong(self.uscc("")),
        }  # fmt: skip
        return str(made[slot]())


def checked_id(body: str) -> str:
    """GB 11643-1999: weights 2^(17-i) mod 11."""
    return body + "10X98765432"[sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(body)) % 11]


def checked_uscc(body: str) -> str:
    """GB 32100-2015 with the check character of GB 11714 inside."""
    total = sum(int(c, 36) * weight for c, weight in zip(body[8:16], (3, 7, 9, 10, 5, 8, 4, 2), strict=True))
    body += "0123456789X0"[11 - total % 11]
    weights = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
    return body + USCC_ALPHABET[-sum(USCC_ALPHABET.index(c) * weight for c, weight in zip(body, weights, strict=True)) % 31]


def checked_card(body: str) -> str:
    doubled = sum(sum(divmod(int(d) * 2, 10)) for d in body[::-2]) + sum(int(d) for d in body[-2::-2])
    return body + str(-doubled % 10)


def hk_check(body: str) -> str:
    total = sum((36 if c == " " else int(c, 36)) * weight for c, weight in zip(body.rjust(8), range(9, 1, -1), strict=True))
    return "0123456789A"[-total % 11]


def tw_sum(text: str) -> int:
    first = TAIWAN[text[0]]
    return first // 10 + first % 10 * 9 + sum(int(d) * w for d, w in zip(text[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))


def wrong(value: str) -> str:
    """The value with another last digit."""
    return value[:-1] + ("7" if value[-1] != "7" else "3")


def unlike_id(value: str) -> str:
    return value if checked_id(value[:17]) != value else wrong(value)


ENTITIES = {
    "mobile": "PHONE_NUMBER", "landline": "PHONE_NUMBER", "hotline": "PHONE_NUMBER", "hkphone": "PHONE_NUMBER", "id": "CN_RESIDENT_ID",
    "old_id": "CN_RESIDENT_ID", "uscc": "CN_USCC", "card": "CREDIT_CARD", "passport": "CN_PASSPORT", "permit": "CN_TRAVEL_PERMIT",
    "home_permit": "CN_TRAVEL_PERMIT", "taiwan_permit": "CN_TRAVEL_PERMIT", "plate": "CN_LICENSE_PLATE", "email": "EMAIL_ADDRESS",
    "hkid": "HK_ID", "twid": "TW_ID", "moid": "MO_ID", "dob": "DATE_OF_BIRTH", "zip": "POSTAL_CODE",
}  # fmt: skip
_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)(?::(\w+))?\}|\[\[(\w+)\|(.*?)\]\]")


def fill(template: str, maker: Maker) -> dict[str, Any]:
    """One text of a template, with the spans of the personal data in it."""
    text, spans, done = "", [], 0
    template = template.replace("\\n", "\n").replace("\\t", "\t")
    for match in _SLOT.finditer(template):
        text += template[done : match.start()]
        done = match.end()
        slot, form, entity, value = match.groups()
        if slot in ENTITIES:
            entity, value = ENTITIES[slot], getattr(maker, slot)(form or "")
        if entity:
            spans.append({"entity": entity, "start": len(text), "end": len(text) + len(value)})
        text += value or (maker.filler(slot) if slot else match.group()[0])
    return {"text": text + template[done:], "spans": spans}


def make(seed: int = 20260) -> str:
    """The whole file: one JSON object a line inside an array."""
    maker, copies, rows = Maker(seed), 0, []
    for line in TEMPLATES.read_text("utf-8").splitlines():
        if line.startswith("# =="):
            copies = COPIES[line.strip("# =")]
        elif not line.startswith("#"):
            rows += [fill(line, maker) for _ in range(copies)]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(make(), "utf-8")

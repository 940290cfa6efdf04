"""Chinese, Hong Kong, Macau and Taiwan identifiers: their checks against published numbers and python-stdnum, their borders in running text."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from affidavit_governance.masking import scan_text
from affidavit_governance.masking.recognizers import validators_china as validators

ID = "11010519491231002X"  # the example that GB 11643-1999 prints
ID_DIGIT = "440524188001010014"  # likewise
USCC = "91350100M000100Y43"  # the example that GB 32100-2015 prints


def shown(text: str) -> list[tuple[str, str]]:
    return [(f.entity, text[f.start : f.end]) for f in scan_text(text)]


# -- checks ---------------------------------------------------------------------------------------------------------------------------------


def test_the_numbers_that_the_standards_print_are_right() -> None:
    assert validators.resident_id(ID) and validators.resident_id(ID_DIGIT)
    assert validators.uscc(USCC) and validators.organisation_code("D2143569X")  # GB 11714-1997
    assert validators.permanent_resident_id("911124198108030024")  # the specimen of the card of 2023
    assert validators.hong_kong_id("A1234563") and validators.hong_kong_id("AB9876543") and validators.hong_kong_id("G123456A")
    assert validators.taiwan_id("A123456789") and validators.taiwan_id("A800000014")


@given(st.from_regex(r"[1-9][0-9]{16}[0-9X]", fullmatch=True))
def test_mod_11_2_is_that_of_stdnum(text: str) -> None:
    iso7064 = pytest.importorskip("stdnum.iso7064.mod_11_2", reason="python-stdnum is not installed")
    assert validators.mod_11_2(text) == iso7064.is_valid(text)


@given(st.sampled_from(sorted(validators.REGIONS)), st.dates(datetime.date(1930, 1, 1), datetime.date(2020, 1, 1)), st.integers(0, 999_999))
def test_whatever_stdnum_takes_for_a_resident_id_is_one(region: str, born: datetime.date, rest: int) -> None:
    ric = pytest.importorskip("stdnum.cn.ric", reason="python-stdnum is not installed")
    body = f"{region}{rest // 1000 % 100:02}{born:%Y%m%d}{rest % 1000:03}"
    number = body + ric.calc_check_digit(body + "0")
    assert validators.resident_id(number)
    assert not any(validators.resident_id(body + digit) for digit in "0123456789X" if digit != number[-1])


def test_every_region_that_stdnum_knows_is_in_the_table() -> None:
    numdb = pytest.importorskip("stdnum.numdb", reason="python-stdnum is not installed")
    known = numdb.get("cn/loc")
    for code in range(1100, 8300):
        province, *rest = known.info(f"{code:04}00")
        if province[1] and code % 100 and rest and rest[0][1]:
            assert f"{code:04}" in validators.REGIONS, code
    assert "1003" not in validators.REGIONS and "9911" not in validators.REGIONS


@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=9, max_size=9))
def test_the_uscc_check_is_that_of_stdnum(organisation: str) -> None:
    stdnum = pytest.importorskip("stdnum.cn.uscc", reason="python-stdnum is not installed")
    body = "91310115" + organisation
    assert [c for c in "0123456789ABCDEFGHJKLMNPQRTUWXY" if validators.uscc(body + c)] == [stdnum.calc_check_digit(body)]


def test_dates_that_nobody_was_born_on_are_refused() -> None:
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    assert not any(map(validators.birth_date, ["19900230", "19901301", "18791231", f"{tomorrow:%Y%m%d}"]))
    assert validators.birth_date("20000229") and validators.birth_date("18800101")


@given(st.sampled_from([ID, ID_DIGIT]), st.integers(0, 17), st.sampled_from("0123456789"))
def test_each_wrong_digit_of_a_resident_id_shows(number: str, at: int, digit: str) -> None:
    assume(number[at] != digit)
    assert not validators.resident_id(number[:at] + digit + number[at + 1 :])


@given(st.from_regex(r"[A-Z][1289A-D][0-9]{7}", fullmatch=True))
def test_one_check_digit_of_ten_is_right_for_a_taiwanese_id(body: str) -> None:
    assert sum(validators.taiwan_id(f"{body}{digit}") for digit in range(10)) == 1


@given(st.from_regex(r"[A-Z]{1,2}[0-9]{6}", fullmatch=True))
def test_one_check_character_of_eleven_is_right_for_a_hong_kong_id(body: str) -> None:
    assert sum(validators.hong_kong_id(body + check) for check in "0123456789A") == 1


def test_a_region_that_never_was_is_refused_whatever_the_check_says() -> None:
    assert validators.mod_11_2("990105194912310023") and validators.birth_date("19491231")
    assert not validators.resident_id("990105194912310023")


@given(st.sampled_from([ID_DIGIT, "110101199003070011"]), st.integers(0, 16))
def test_each_swap_of_neighbours_in_a_resident_id_shows(number: str, at: int) -> None:
    assume(number[at] != number[at + 1])
    assert not validators.resident_id(number[:at] + number[at + 1] + number[at] + number[at + 2 :])


# -- in text --------------------------------------------------------------------------------------------------------------------------------

PLANTED = [
    ("CN_RESIDENT_ID", ID),
    ("CN_RESIDENT_ID", ID.lower()),
    ("CN_RESIDENT_ID", "110105 19491231 002X"),
    ("CN_RESIDENT_ID", "110105-1949-1231-002X"),
    ("CN_USCC", USCC),
    ("CN_USCC", USCC.lower()),
    ("CN_USCC", "91350100 M000100Y 43"),
    ("CN_LICENSE_PLATE", "京A12345"),
    ("CN_LICENSE_PLATE", "京a·12345"),
    ("CN_LICENSE_PLATE", "新A·12345"),
    ("CN_LICENSE_PLATE", "沪AD12345"),
    ("CN_LICENSE_PLATE", "粤B12345D"),
    ("CN_LICENSE_PLATE", "粤Z1234港"),
    ("CN_LICENSE_PLATE", "辽A1234警"),
    ("HK_ID", "A123456(3)"),
    ("HK_ID", "AB987654（3）"),
]
FRAMES = ["{}", "我的号码是{}，谢谢。", "号码：{}（已核实）", "“{}”", "x\n{}\ny", "a={};b=2", "共3件，{}、其余明天", "，{}："]


@pytest.mark.parametrize(("entity", "value"), PLANTED)
@pytest.mark.parametrize("frame", FRAMES)
def test_each_is_found_whole_between_chinese_characters_and_signs(entity: str, value: str, frame: str) -> None:
    assert (entity, value) in shown(frame.format(value))


@pytest.mark.parametrize(("entity", "value"), PLANTED)
def test_full_width_forms_are_found_whole(entity: str, value: str) -> None:
    wide = "".join({" ": "\u3000"}.get(c, chr(ord(c) + 0xFEE0)) if c.isascii() else c for c in value)
    assert (entity, wide) in shown(f"号码{wide}。")


WORDS_DECIDE = [
    ("CN_RESIDENT_ID", "110105491231002", "老身份证号{}"),
    ("CN_PASSPORT", "E12345678", "护照{}"),
    ("CN_PASSPORT", "EA1234567", "护照号码：{}，有效期十年"),
    ("CN_PASSPORT", "DE1234567", "外交护照{}"),
    ("CN_PASSPORT", "K12345678", "香港特区护照{}"),
    ("CN_TRAVEL_PERMIT", "C12345678", "港澳通行证{}"),
    ("CN_TRAVEL_PERMIT", "CA1234567", "往来港澳通行证号码{}"),
    ("CN_TRAVEL_PERMIT", "H1234567801", "回鄉證號碼{}"),
    ("CN_TRAVEL_PERMIT", "M12345678", "港澳居民来往内地通行证{}"),
    ("CN_TRAVEL_PERMIT", "T12345678", "往来台湾通行证{}"),
    ("CN_TRAVEL_PERMIT", "01234567", "台胞证{}"),
    ("CN_TRAVEL_PERMIT", "0123456789(B)", "台胞证號{}"),
    ("CN_LICENSE_PLATE", "新A12345", "车牌{}"),
    ("HK_ID", "A1234563", "香港身份證{}"),
    ("MO_ID", "1234567(8)", "澳門居民身份證{}"),
    ("MO_ID", "5/123456/7", "澳门身份证{}"),
    ("TW_ID", "A123456789", "身分證字號{}"),
    ("TW_ID", "A800000014", "居留證統一證號{}"),
]


@pytest.mark.parametrize(("entity", "value", "frame"), WORDS_DECIDE)
def test_words_decide_about_forms_that_other_numbers_share(entity: str, value: str, frame: str) -> None:
    assert shown(frame.format(value)) == [(entity, value)]
    assert entity not in {found for found, _ in shown(f"商品{value}已售完")}


@pytest.mark.parametrize(("entity", "value", "frame"), WORDS_DECIDE)
def test_the_columns_name_decides_as_words_do(entity: str, value: str, frame: str) -> None:
    assert [f.entity for f in scan_text(value, hints=frozenset({entity}))] == [entity]


@pytest.mark.parametrize(
    "text",
    [
        "身份证110105194912310021校验位不对",
        "订单202411221234567890已发货",
        "流水号911101080000000000",
        "编号110105194913310023不是日期",
        "最新A80312耳机",
        "黑B90871和青C12345两款",
        "护照办理指南第2024版",
        "A123456(4)",
        "京A1234和京A1234567",
        "护照号ABE12345678写错了",
        "护照号E12345678_2写错了",
        "abc京",
        "x110105194912310021",
        f"{ID}9",
        f"9{ID}",
        f"A{USCC}",
        "型号G12345678",
        "通行证办理电话见公告，订单尾号1234567",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    ours = {"CN_RESIDENT_ID", "CN_USCC", "CN_PASSPORT", "CN_TRAVEL_PERMIT", "CN_LICENSE_PLATE", "HK_ID", "MO_ID", "TW_ID"}
    assert not ours & {entity for entity, _ in shown(text)}


def test_a_file_name_with_underscores_shows_its_resident_id() -> None:
    assert shown(f"身份证_{ID}_正面.jpg") == [("CN_RESIDENT_ID", ID)]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("出生日期：1990年1月2日，入院日期：2024年3月1日", ["1990年1月2日"]),
        ("出生日期（公历）：1990-01-02", ["1990-01-02"]),
        ("她生于1990.1.2，毕业于2012年", ["1990.1.2"]),
        ("生日是农历1990年8月", ["1990年8月"]),
        ("张某，男，1985年3月生，汉族", ["1985年3月"]),
        ("1990年1月2日出生的人", ["1990年1月2日"]),
        ("出生于一九六三年四月五日", ["一九六三年四月五日"]),
        ("民國79年1月2日生", ["民國79年1月2日"]),
        ("出生年月 1990-01", ["1990-01"]),
        ("生日19900102", ["19900102"]),
        ("祝生日快乐！2024年1月1日送到", []),
        ("发生于2024年3月1日的事故", []),
        ("王先生于2024年3月1日入住", []),
        ("2024年3月出生率下降", []),
        ("新生报到2024年9月1日", []),
        ("生产日期20240315", []),
        ("学生2024年入学", []),
    ],
)
def test_dates_are_dates_of_birth_only_beside_words_that_say_so(text: str, dates: list[str]) -> None:
    assert [value for entity, value in shown(text) if entity == "DATE_OF_BIRTH"] == dates


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("邮编100020", ["100020"]),
        ("邮政编码：518000。", ["518000"]),
        ("邮编是 210008", ["210008"]),
        ("210008（邮编）", ["210008"]),
        ("郵遞區號106", ["106"]),
        ("邮编1000201", []),
        ("编号100020", []),
        ("邮箱100020", []),
    ],
)
def test_digits_are_postal_codes_only_beside_words_that_say_so(text: str, codes: list[str]) -> None:
    assert [value for entity, value in shown(text) if entity == "POSTAL_CODE"] == codes

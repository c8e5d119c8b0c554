"""References to the Hugging Face hub, and which files of a repository they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.hub import choose_files, split_reference
from benchai.errors import ConfigError


def parts(stem: str, total: int) -> list[str]:
    return [f"{stem}-{number:05}-of-{total:05}.gguf" for number in range(1, total + 1)]


REPO = [
    *(".gitattributes", "README.md", "config.json", "model.safetensors"),
    *("m-F16.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0.gguf", "sub/m-Q6_K.gguf"),
    *("mmproj-m-F16.gguf", "mmproj-m-Q8_0.gguf"),
    *parts("big-Q5_K_M", 3),
]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("owner/name", ("owner/name", "Q4_K_M")),
        ("owner/name:", ("owner/name", "Q4_K_M")),
        ("owner/name:Q5_K_M", ("owner/name", "Q5_K_M")),
        ("owner/na.me-1_x:sub/file.gguf", ("owner/na.me-1_x", "sub/file.gguf")),
    ],
)
def test_a_reference(reference: str, expected: tuple[str, str]) -> None:
    assert split_reference(reference) == expected


@pytest.mark.parametrize(
    "reference", ["", "name", "a/b/c", "/b", "a/", "a b/c", "https://x/a/b", ":Q4", "../..", "a/.", "a/b\n", "a/b.git"]
)
def test_no_reference(reference: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form owner/name"):
        split_reference(reference)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("Q4_K_M", ["m-Q4_K_M.gguf"]),
        ("q4_k_m", ["m-Q4_K_M.gguf"]),
        ("Q8_0", ["m-Q8_0.gguf"]),
        ("F16", ["m-F16.gguf"]),
        ("Q6_K", ["sub/m-Q6_K.gguf"]),
        ("Q5_K_M", parts("big-Q5_K_M", 3)),
        ("m-Q4_K_S.gguf", ["m-Q4_K_S.gguf"]),
        ("mmproj-m-F16.gguf", ["mmproj-m-F16.gguf"]),
        ("sub/m-Q6_K.gguf", ["sub/m-Q6_K.gguf"]),
        ("big-Q5_K_M-00001-of-00003.gguf", parts("big-Q5_K_M", 3)),
        ("big-Q5_K_M-00002-of-00003.gguf", parts("big-Q5_K_M", 3)),
        ("Q2_K", []),
        ("other.gguf", []),
        ("config.json", []),
        ("*", None),
    ],
)
def test_the_files_of_a_repository(what: str, expected: list[str] | None) -> None:
    found = choose_files(REPO, what)
    assert found == expected or (expected is None and not any("mmproj" in name for name in found))
    assert choose_files(REPO[::-1], what) == found


@pytest.mark.parametrize(
    ("files", "what", "expected"),
    [
        (["m-BF16.gguf", "m-F16.gguf"], "F16", ["m-F16.gguf"]),
        (["BF16/m-BF16.gguf", "m-F16.gguf"], "F16", ["m-F16.gguf"]),
        (["m-IQ2_K.gguf", "m-Q2_K.gguf"], "Q2_K", ["m-Q2_K.gguf"]),
        (["m-Q4_K_M.gguf", "m-Q4_K_M_L.gguf"], "Q4_K_M", ["m-Q4_K_M.gguf"]),
        (["m-Q2_K-v2.gguf", "m-Q2_K.gguf", "m-Q2_K_L.gguf"], "Q2_K_L", ["m-Q2_K_L.gguf"]),
        (["m.Q4_0.gguf", "m.TQ4_0.gguf"], "Q4_0", ["m.Q4_0.gguf"]),
        (["M-Q4_0.GGUF"], "Q4_0", ["M-Q4_0.GGUF"]),
    ],
)
def test_a_quantisation_whose_name_is_part_of_another(files: list[str], what: str, expected: list[str]) -> None:
    assert choose_files(files, what) == expected


@pytest.mark.parametrize(
    ("files", "what", "expected"),
    [
        ([*parts("m-Q4_K", 2), *parts("m-Q4_K_M", 2)], "Q4_K", parts("m-Q4_K", 2)),
        ([*parts("m", 2), *parts("m-big", 3)], "m-00001-of-00002.gguf", parts("m", 2)),
        ([*parts("m-Q4_K_M", 2), *parts("m-Q4_K_M", 3)], "m-Q4_K_M-00001-of-00003.gguf", parts("m-Q4_K_M", 3)),
    ],
)
def test_the_parts_of_one_model_are_not_mixed_with_anothers(files: list[str], what: str, expected: list[str]) -> None:
    assert choose_files(files, what) == expected


@given(
    st.lists(st.text("aqQ4_Kk.-/[]*?", max_size=12).map(lambda name: f"{name}.gguf"), max_size=6), st.text(max_size=6)
)
def test_what_is_chosen_is_in_the_repository(files: list[str], what: str) -> None:
    assert set(choose_files(files, what)) <= set(files)

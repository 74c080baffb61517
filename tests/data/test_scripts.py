import pytest
import regex

from lessexp.data.scripts import UNSPACED


@pytest.mark.parametrize("character", "世あアไລខမ")
def test_scripts_without_spaces_are_told_from(character):
    assert regex.fullmatch(UNSPACED, character)


@pytest.mark.parametrize("character", "aéжবم한 .7")
def test_scripts_with_spaces(character):
    assert not regex.fullmatch(UNSPACED, character)

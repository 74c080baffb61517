import pytest

from lessexp.errors import MissingFileError, UserError


def test_a_missing_file_is_both_a_users_error_and_a_file_not_found():
    for kind in (UserError, FileNotFoundError):
        with pytest.raises(kind, match=r"pool\.jsonl"):
            raise MissingFileError("pool.jsonl: no such file")

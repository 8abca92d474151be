"""Who judged, out of metrics.json: names, or one line that says where there are none."""

import json

import pytest

from hpro_core.errors import HproError
from hpro_core.judges.provenance import (
    JudgeProvenance,
    common_provenance,
    read_provenance,
    to_json,
)

WHO = JudgeProvenance({"asr": "a, sha256 0"}, {"emo_sim": "b"})


def test_the_judges_come_back(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(to_json(WHO)))
    assert read_provenance(path) == WHO


@pytest.mark.parametrize("key", ["judges", "judged_by_teachers"])
@pytest.mark.parametrize("odd", [None, [], "a", {"asr": 1}, {"asr": None}, {"asr": ["a"]}])
def test_judges_without_names_are_refused(key, odd, tmp_path):
    good, path = tmp_path / "good.json", tmp_path / "metrics.json"
    good.write_text(json.dumps(to_json(WHO)))
    path.write_text(json.dumps({**to_json(WHO), key: odd}))
    with pytest.raises(HproError, match=rf"metrics\.json, {key}.*run `hpro judge` again"):
        common_provenance([good, path])

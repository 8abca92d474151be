"""Every reader of a published corpus on its miniature, whole and with planted faults."""

import typing
from importlib import import_module

import pytest

from hpro_core.constants import EMOTIONS
from hpro_core.corpus.check import format_report
from hpro_core.corpus.readers.registry import PUBLISHED, detect_reader
from hpro_core.corpus.usable import SINGLE_UTTERANCE
from hpro_core.errors import HproError
from hpro_core.params import CorpusSet
from tests.corpora.planting import checked, link_folders

_MODULES = [import_module(f"tests.corpora.{name}") for name in PUBLISHED]
MINIATURES = {module.READER: module for module in _MODULES}
FAULTS = [(name, fault) for name, miniature in MINIATURES.items() for fault in miniature.PLANTED]


def test_every_reader_has_a_miniature_and_can_be_asked_for_in_params():
    assert set(MINIATURES) == set(PUBLISHED)
    asked = typing.get_args(CorpusSet.model_fields["reader"].annotation)
    assert set(asked) == {"amazon_queen", "amazon_queen_scenes", "csv", "controlled", *PUBLISHED}


def test_labels_are_mapped_to_the_nine_classes():
    for reader in PUBLISHED.values():
        assert set(reader.INFO.emotions.values()) <= set(EMOTIONS)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_is_recognised_and_without_fault_also_by_links(name, tmp_path):
    miniature, folder = MINIATURES[name], tmp_path / "corpus"
    folder.mkdir()
    miniature.build(folder)
    assert detect_reader(folder) == name
    contents = checked(folder)
    # miniatures have speakers with one utterance, which a run rejects
    assert {fault.reason for fault in contents.faults} <= {SINGLE_UTTERANCE}
    assert contents.n_utterances + len(contents.faults) == miniature.UTTERANCES
    assert len(contents.speakers) + len(contents.faults) == miniature.SPEAKERS
    before = list(PUBLISHED[name].read(folder))
    link_folders(folder, tmp_path / "store")
    assert detect_reader(folder) == name
    assert list(PUBLISHED[name].read(folder)) == before


@pytest.mark.parametrize(
    ("name", "fault"), FAULTS, ids=[f"{name}: {fault.name}" for name, fault in FAULTS]
)
def test_a_planted_fault_is_named(name, fault, tmp_path):
    MINIATURES[name].build(tmp_path)
    fault.plant(tmp_path)
    if fault.stops:
        with pytest.raises(HproError) as error:
            checked(tmp_path, name)
        assert fault.says in str(error.value)
    else:
        contents = checked(tmp_path, name)
        assert fault.says in "\n".join(format_report(PUBLISHED[name].INFO, contents))
        n = contents.n_utterances + len(contents.faults)
        assert n >= MINIATURES[name].UTTERANCES  # nothing is lost

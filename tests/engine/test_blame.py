from __future__ import annotations

from edged.engine.blame import DEATHS, KILLS, Blame
from edged.messages import Rung, Working

GUILTY = Working(1, 0, 16000, final=True)
BESIDE = Working(2, 500, 9000, final=True)
RUNG = Rung("moonshine-tiny-en", "onnxruntime", "cpu", "int8")


def test_samples_that_end_two_workers_are_to_blame() -> None:
    blame = Blame()
    assert [blame.samples([GUILTY], fault=True) for _ in range(DEATHS)][-1] == GUILTY


def test_it_takes_more_workers_that_are_killed_from_outside() -> None:
    blame = Blame()
    found = [blame.samples([GUILTY], fault=False) for _ in range(KILLS)]
    assert found == [None] * (KILLS - 1) + [GUILTY]


def test_who_stood_beside_is_not_blamed() -> None:
    blame = Blame()
    assert blame.samples([BESIDE, GUILTY], fault=True) is None
    assert blame.suspects.keys() == {BESIDE, GUILTY}
    assert blame.samples([GUILTY], fault=True) == GUILTY


def test_others_that_a_worker_dies_at_are_new_suspects() -> None:
    blame = Blame()
    blame.samples([BESIDE], fault=True)
    assert blame.samples([GUILTY], fault=True) is None
    assert blame.samples([BESIDE], fault=True) is None


def test_samples_that_were_survived_are_no_suspects_any_more() -> None:
    blame = Blame()
    blame.samples([BESIDE, GUILTY], fault=True)
    assert not blame.survived(1, 15999)
    assert not blame.survived(1, 16000)
    assert blame.survived(2, 10000)
    assert not blame.suspects
    assert not blame.survived(2, 20000)


def test_a_rung_that_fails_too_often_is_to_blame() -> None:
    blame = Blame()
    assert [blame.rung(RUNG, True, now) for now in (0, 10, 20, 30)][-1]
    assert not Blame().rung(RUNG, True, 40)

"""Segments of sound and of series as players."""

from __future__ import annotations

import io
import tarfile
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula

from affidavit import Dataset
from affidavit.interfaces.model import Task
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.players.segments import equal_cuts, quiet_cuts

SPOKEN = Path(__file__).parents[4] / "shared/data/spoken_digits.tar.gz"
RATE = 8000


def sounds(values):
    return Dataset.from_arrow(pa.table({"sound": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))}))


def bursts(rows, seed=0):
    """Silence with a tone at a place of its own, one second at 800 numbers a second; and where the tone begins."""
    generator = np.random.default_rng(seed)
    places = generator.integers(0, 14, rows) * 50 + 35
    sound = np.zeros((rows, 800))
    for row, place in enumerate(places):
        sound[row, place : place + 30] = np.sin(np.arange(30) * generator.uniform(0.4, 1.2))
    return sound, places


@pytest.mark.parametrize("length, count", [(10, 3), (16, 16), (800, 16), (7, 1), (5, 5)])
def test_equal_cuts_differ_by_one_at_most(length, count):
    starts = equal_cuts(length, count)
    lengths = np.diff(np.append(starts, length))
    assert starts[0] == 0 and len(starts) == count and lengths.min() >= 1 and np.ptp(lengths) <= 1


def test_quiet_cuts_fall_into_the_pauses_and_cut_silence_evenly():
    energy = np.ones(1000)
    for pause in (220, 470, 790):
        energy[pause : pause + 30] = 0
    starts = quiet_cuts(energy, 4)
    assert all(energy[start] == 0 for start in starts[1:]) and starts[0] == 0
    assert (quiet_cuts(np.zeros(1000), 8) == equal_cuts(1000, 8)).all()
    for length, count in ((9, 9), (16, 5), (3, 1)):
        starts = quiet_cuts(np.random.default_rng(0).random(length), count)
        assert (np.diff(starts) > 0).all() and starts[-1] < length


@pytest.mark.parametrize("cuts", ["equal", "quiet"])
@pytest.mark.parametrize("shape", [(800,), (1, 800), (2, 800), (800, 1)])
def test_the_segment_with_the_tone_gets_it_all(cuts, shape):
    values, places = bursts(4)
    channels = {(800,): values, (1, 800): values[:, None], (2, 800): np.stack([values, values], axis=1), (800, 1): values[..., None]}[shape]
    data = sounds(channels)
    model = Formula(lambda d: np.tanh((d.to_numpy("sound") ** 2).reshape(len(d), -1).sum(axis=1) / 10), data, Task.REGRESSION)
    found = Exact().explain(model, data, data, players={"sound": "segments"}, fill=0, cuts=cuts, rate=800.0)
    assert found.residual.max() < 1e-12 and len(found.players) == 16
    np.testing.assert_allclose(found.values.sum(axis=1), found.predicted, atol=1e-12)
    assert found.details["rate"] == 800.0 and found.details["cuts"] == cuts and found.details["players"] == {"sound": "segments"}
    for row, place in enumerate(places):
        touched = np.flatnonzero(found.values[row])
        assert len(touched) <= 2
        if cuts == "equal":
            assert set(touched) == {place // 50, (place + 29) // 50}
            assert found.players[place // 50].startswith(f"sound {place // 50 * 50 / 800:.3f}–")
        else:
            assert found.players[0] == "sound [1]" and all(str(label).endswith(" s") for label in found.inputs[row])
            assert len(touched) == 1, "a quiet cut does not go through the tone"


def test_names_say_places_where_no_rate_is_known_and_the_record_holds_no_sound():
    values, _ = bursts(3)
    data = sounds(values)
    model = Formula(lambda d: (d.to_numpy("sound") ** 2).sum(axis=1), data, Task.REGRESSION)
    found = Permutation().explain(model, data, data, players={"sound": "segments"}, grid=2, fill=0)
    assert found.players == ("sound [1–200]", "sound [201–400]", "sound [401–600]", "sound [601–800]")
    quiet = Permutation().explain(model, data, data, players={"sound": "segments"}, grid=2, fill=0, cuts="quiet")
    assert quiet.inputs[0][0].startswith("[1–") and "–" not in str(quiet.to_json()["players"])


def test_a_row_alone_has_the_numbers_it_has_among_other_sounds():
    values, _ = bursts(5)
    data = sounds(values + 0.01 * np.random.default_rng(1).normal(size=values.shape))
    model = Formula(lambda d: np.tanh((d.to_numpy("sound") ** 2).sum(axis=1) / 10), data, Task.REGRESSION)
    given = {"players": {"sound": "segments"}, "cuts": "quiet", "grid": 3, "budget": 300}
    batch, alone = (Permutation().explain(model, rows, data, **given) for rows in (data, data.take([3])))
    assert (batch.values[3] == alone.values[0]).all() and (batch.errors[3] == alone.errors[0]).all()


def spoken_digits(length=6000):
    """Recordings of zeros and ones, cut or padded to one length, in −1…1."""
    rows, labels, lengths = [], [], []
    with tarfile.open(SPOKEN) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.name[0] not in "01" or not member.name.endswith(".wav"):
                continue
            with wave.open(io.BytesIO(archive.extractfile(member).read())) as file:
                assert file.getframerate() == RATE
                sound = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)[:length] / 2**15
            rows.append(np.pad(sound, (0, length - len(sound))))
            labels.append(member.name[0] == "1")
            lengths.append(len(sound))
    return np.array(rows), np.array(labels), np.array(lengths)


def test_spoken_digits_are_explained_by_their_sound_and_not_by_their_padding():
    if not SPOKEN.exists():
        pytest.skip("the recordings are not on this machine")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sound, label, lengths = spoken_digits()

    def bands(values):  # log energy in sixteen bands of each eighth of the recording
        frames = values.reshape(len(values), 8, -1)
        power = abs(np.fft.rfft(frames * np.hanning(frames.shape[-1]))) ** 2
        return np.log(np.stack([part.sum(axis=-1) for part in np.array_split(power, 16, axis=-1)], axis=-1) + 1e-3).reshape(len(values), -1)

    train = np.arange(len(sound)) % 4 != 0
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(bands(sound[train]), label[train])
    assert fitted.score(bands(sound[~train]), label[~train]) > 0.9
    data = sounds(sound)
    model = Formula(lambda d: fitted.predict_proba(bands(d.to_numpy("sound")))[:, 1], data)
    shown = np.flatnonzero(~train)[np.argsort(lengths[~train])[:3]]
    found = Permutation().explain(model, data.take(shown), data.take(np.arange(40)), players={"sound": "segments"}, fill=0, rate=RATE, budget=400)
    assert found.residual.max() < 1e-9 and found.players[1].endswith(" s")
    for row, number in enumerate(shown):
        spoken = -(-lengths[number] * 16 // 6000)
        assert (found.values[row, spoken:] == 0).all() and spoken < 16
        assert abs(found.values[row, :spoken]).sum() > 0.05

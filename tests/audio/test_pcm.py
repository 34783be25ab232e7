"""PCM of any kind becomes float32 mono at 16 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.audio.pcm import ENCODINGS, Mixer, PcmConverter, PcmFormat
from edged.errors import AudioError

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000]


def convert(data: bytes, *, channel: int | None = None, **layout: Any) -> np.ndarray:
    converter = PcmConverter(PcmFormat(**layout), channel)
    return np.concatenate([converter.feed(data), converter.finish()])


# -- encodings ----------------------------------------------------------------------------------

# ITU-T G.711, tables 1a, 1b, 2a and 2b: codes as they are sent, values in 16 bits.
MULAW = {0x00: -32124, 0x01: -31100, 0x0F: -16764, 0x10: -15996, 0x40: -1884, 0x7E: -8, 0x7F: 0}
MULAW |= {0x80: 32124, 0x8F: 16764, 0xC0: 1884, 0xF0: 120, 0xFE: 8, 0xFF: 0}
ALAW = {0x00: -5504, 0x2A: -32256, 0x2B: -31232, 0x55: -8, 0x54: -24, 0x15: -2112, 0x5A: -248}
ALAW |= {0xD5: 8, 0xD4: 24, 0xAA: 32256, 0xAB: 31232, 0x80: 5504, 0xDA: 248, 0x95: 2112}


@pytest.mark.parametrize(("encoding", "known"), [("mulaw", MULAW), ("alaw", ALAW)])
def test_the_companded_codes_have_the_standards_values(
    encoding: str, known: dict[int, int]
) -> None:
    values = convert(bytes(known), encoding=encoding) * 32768
    assert values.tolist() == list(known.values())


@pytest.mark.parametrize(("encoding", "different"), [("mulaw", 255), ("alaw", 256)])
def test_the_companded_codes_are_symmetric(encoding: str, different: int) -> None:
    values = np.empty(256, np.float32)
    ENCODINGS[encoding][1](bytes(range(256)), values)
    assert np.array_equal(np.sort(values), np.sort(-values))
    assert len(set(values.tolist())) == different, "mu-law has two zeros"


def test_sixteen_bits_become_fractions_of_full_scale() -> None:
    data = np.array([0, 1, -1, 16384, 32767, -32768], "<i2").tobytes()
    expected = [0, 1 / 32768, -1 / 32768, 0.5, 32767 / 32768, -1]
    assert convert(data).tolist() == expected


def test_floats_are_taken_as_they_are() -> None:
    data = np.array([0, 0.5, -1, 1, 1e-30], "<f4")
    assert np.array_equal(convert(data.tobytes(), encoding="f32le"), data)


def test_floats_beyond_full_scale_are_limited() -> None:
    data = np.array([1.5, -7, 3e38], "<f4").tobytes()
    assert convert(data, encoding="f32le").tolist() == [1, -1, 1]


def test_what_is_no_number_becomes_silence_and_is_counted() -> None:
    converter = PcmConverter(PcmFormat(encoding="f32le"))
    good = np.array([0.25, -0.25], "<f4").tobytes()
    bad = np.array([np.nan, 0.5, np.inf, -np.inf], "<f4").tobytes()
    assert converter.feed(good).tolist() == [0.25, -0.25]
    assert converter.bad_samples == 0
    assert converter.feed(bad).tolist() == [0, 0.5, 0, 0]
    assert converter.bad_samples == 3
    converter.feed(bad)
    assert converter.bad_samples == 6


# -- rates --------------------------------------------------------------------------------------


def tone(rate: int, seconds: float = 1.0, hertz: float = 1000, level: float = 0.5) -> np.ndarray:
    times = np.arange(round(rate * seconds)) / rate
    return (level * np.sin(2 * np.pi * hertz * times)).astype("<f4")


@pytest.mark.parametrize("rate", RATES)
def test_resampling_keeps_a_tones_frequency_and_level(rate: int) -> None:
    out = convert(tone(rate).tobytes(), rate=rate, encoding="f32le")
    assert abs(len(out) - 16000) <= 2
    middle = out[2000:14000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 16000 / len(middle) == pytest.approx(1000, abs=2)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("rate", [44100, 48000, 192000])
def test_what_16_khz_cannot_hold_is_filtered_out(rate: int) -> None:
    out = convert(tone(rate, hertz=11000).tobytes(), rate=rate, encoding="f32le")
    assert np.abs(out[2000:14000]).max() < 0.001


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(ENCODINGS)),
    st.sampled_from([8000, 16000, 44100]),
    st.integers(1, 3),
    st.lists(st.integers(1, 4000), min_size=1, max_size=8),
)
def test_cuts_change_nothing(encoding: str, rate: int, channels: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 6000).astype("<f4")
    data = samples.tobytes() if encoding == "f32le" else samples.view(np.uint8)[:12000].tobytes()
    whole = convert(data, rate=rate, encoding=encoding, channels=channels)
    converter = PcmConverter(PcmFormat(rate, encoding, channels))
    out, first = [], 0
    for size in [*sizes, len(data)]:
        out.append(converter.feed(data[first : first + size]))
        first += size
    out.append(converter.finish())
    assert np.allclose(np.concatenate(out), whole, atol=1e-6)


# -- channels -----------------------------------------------------------------------------------


def interleaved(*channels: list[float]) -> bytes:
    return np.array(channels, "<f4").T.tobytes()


def test_channels_are_mixed_evenly() -> None:
    data = interleaved([1, 0, 0.5], [0, 1, 0.5], [-1, 0.5, 0.5], [0, 0.5, 0.5])
    assert convert(data, encoding="f32le", channels=4).tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_channel_can_be_chosen(channel: int) -> None:
    data = interleaved([0.1, 0.1], [0.2, 0.2], [0.3, 0.3])
    out = convert(data, encoding="f32le", channels=3, channel=channel)
    assert out == pytest.approx([0.1 * (channel + 1)] * 2)


def test_a_channel_that_is_not_there_cannot_be_chosen() -> None:
    for channel in (-1, 2, 64):
        with pytest.raises(AudioError, match="does not exist") as raised:
            PcmConverter(PcmFormat(channels=2), channel)
        assert raised.value.code == "bad_channels"


def test_limits_hold_for_each_channel_before_the_mix() -> None:
    data = interleaved([100.0], [-1.0])
    assert convert(data, encoding="f32le", channels=2).tolist() == [0]


# -- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "code", "cure"),
    [
        ({"rate": 7999}, "bad_rate", "8000"),
        ({"rate": 192001}, "bad_rate", "192000"),
        ({"encoding": "mp3"}, "bad_encoding", "s16le"),
        ({"channels": 0}, "bad_channels", "64"),
        ({"channels": 65}, "bad_channels", "64"),
    ],
)
def test_a_layout_out_of_range_is_refused_with_what_would_do(
    layout: dict[str, Any], code: str, cure: str
) -> None:
    with pytest.raises(AudioError, match=cure) as raised:
        PcmConverter(PcmFormat(**layout))
    assert raised.value.code == code


def test_nothing_becomes_nothing() -> None:
    for rate in (16000, 48000):
        assert len(convert(b"", rate=rate)) == 0


def test_blocks_are_contiguous_so_that_they_can_be_written_as_they_are() -> None:
    frames = np.zeros((100, 2), np.float32)
    for mixer in (Mixer(16000, 2), Mixer(16000, 2, 1), Mixer(48000, 2)):
        block = mixer.feed(frames)
        assert block.flags.c_contiguous
        assert block.dtype == np.float32

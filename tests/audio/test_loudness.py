from __future__ import annotations

import numpy as np

from edged.audio.loudness import Loudness


def test_a_voice_over_noise_is_louder_and_the_noise_is_not() -> None:
    loudness, random = Loudness(), np.random.default_rng(1)
    noise = [float(np.abs(random.normal(0, 0.01, 512)).mean()) for _ in range(200)]
    assert not any(loudness.rises(level) for level in noise)
    assert loudness.rises(0.03)
    assert not loudness.rises(noise[0])


def test_after_digital_silence_steady_noise_is_soon_nothing_new() -> None:
    loudness = Loudness()
    assert not any(loudness.rises(0.0) for _ in range(100))
    heard = [loudness.rises(0.01) for _ in range(300)]
    assert heard[0]
    assert not any(heard[150:])

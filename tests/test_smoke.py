from tests.client import of_type, recognize, silence, texts
import numpy as np

def test_stream(daemon, speech):
    ev = recognize(daemon.url, np.concatenate([speech[:16000*8], silence(1)]), query="&words=1", pace=1.0)
    for e in ev: print(e)
    assert "best of times" in " ".join(texts(ev))

// How long words take from being spoken to being shown.

const plain = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}']/gu, "");

/** Follows one stream's utterances. Times are the stream's own, so no clocks are compared. */
export class WordClock {
  constructor() {
    this._shown = [];
    this._whole = null; // the utterance that was followed from its beginning
  }

  /** An utterance begins. Of one that had begun before, nobody knows when its words were shown. */
  begin(event) {
    this._whole = event.utterance;
    this._shown = [];
  }

  /** A partial: which words it shows that were not there before. */
  partial(event) {
    const at = event.end + event.age;
    const words = event.text.split(/\s+/).filter(Boolean).map(plain);
    this._shown = words.map((word, index) => (
      this._shown[index]?.word === word ? this._shown[index] : { word, at }
    ));
  }

  /** A final: the median of its words' latencies in seconds, or null where it is not known. */
  final(event) {
    const words = event.words ?? [];
    const shown = this._shown;
    this._shown = [];
    if (!words.length || event.utterance !== this._whole) return null;
    const now = words.at(-1).end + event.latency.total; // for words that no partial has shown
    const latencies = words.map(({ word, end }, index) => {
      const before = shown[index]?.word === plain(word) ? shown[index].at : now;
      return Math.max(0, before - end);
    });
    return latencies.sort((a, b) => a - b)[Math.ceil(latencies.length / 2) - 1];
  }
}

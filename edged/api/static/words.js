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

  /** A final: the median of its words' latencies in seconds, or null where none was shown before. */
  final(event) {
    const latencies = (event.words ?? [])
      .map(({ word, end }, index) => [this._shown[index], plain(word), end])
      .filter(([shown, word]) => shown?.word === word)
      .map(([shown, , end]) => Math.max(0, shown.at - end))
      .sort((a, b) => a - b);
    this._shown = [];
    if (event.utterance !== this._whole) return null;
    return latencies.length ? latencies[Math.ceil(latencies.length / 2) - 1] : null;
  }
}

package org.lorarar.core;

/** A text as the UNet reads it: hidden (tokens, width), pooled (width). */
final class Embedding {
    final Tensor hidden;
    final Tensor pooled;

    Embedding(Tensor hidden, Tensor pooled) {
        this.hidden = hidden;
        this.pooled = pooled;
    }

    /** What stands for no text at all where a model was trained so. */
    Embedding zeros() {
        return new Embedding(
            Tensor.of(new float[hidden.floats.length], hidden.shape),
            Tensor.of(new float[pooled.floats.length], pooled.shape));
    }

    /** Two texts' hidden states side by side, (1, tokens, widths together). */
    static Tensor sideBySide(Tensor one, Tensor other) {
        int tokens = (int) one.shape[1];
        int first = (int) one.shape[2];
        int second = (int) other.shape[2];
        float[] joined = new float[tokens * (first + second)];
        for (int i = 0; i < tokens; i++) {
            int at = i * (first + second);
            System.arraycopy(one.floats, i * first, joined, at, first);
            System.arraycopy(other.floats, i * second, joined, at + first, second);
        }
        return Tensor.of(joined, 1, tokens, first + second);
    }
}

package org.lorarar.core;

/** How long merging two LoRAs took, in nanoseconds. */
public final class MergeTime {
    /** Of predicting the coefficients with the hypernetwork. */
    public final long coefficients;
    /** Of computing the merged factors from them. */
    public final long factors;

    public MergeTime(long coefficients, long factors) {
        this.coefficients = coefficients;
        this.factors = factors;
    }

    public long total() {
        return coefficients + factors;
    }

    public double milliseconds() {
        return total() / 1e6;
    }
}

package org.lorarar.core;

/**
 * Half of the hypernetwork's first layer for one layer of a LoRA, kept.
 *
 * <p>values: (hidden, rank) at level small, (hidden, in) otherwise; scales: (hidden, 1), or null.
 */
public final class Feature {
    public final Factor values;
    public final Factor scales;

    Feature(Factor values, Factor scales) {
        this.values = values;
        this.scales = scales;
    }

    /** values * scales in float32, row-major, fresh. */
    public float[] values() {
        float[] all = values.values();
        if (scales == null) {
            return all;
        }
        float[] ofRows = scales.values();
        for (int i = 0; i < all.length; i++) {
            all[i] *= ofRows[i / values.columns];
        }
        return all;
    }
}

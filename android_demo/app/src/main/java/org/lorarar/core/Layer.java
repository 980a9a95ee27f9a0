package org.lorarar.core;

/** One adapted layer: dW = scale * up @ down, with scale = alpha / rank. */
public final class Layer {
    /** (out, rank). */
    public final Factor up;
    /** (rank, in), or (rank, in times the kernel's size) of a convolution. */
    public final Factor down;
    public final float scale;
    /** The base's weight: (out, in), or (out, in, height, width). */
    public final long[] shape;

    Layer(Factor up, Factor down, float scale, long[] shape) {
        this.up = up;
        this.down = down;
        this.scale = scale;
        this.shape = shape;
    }

    public int out() {
        return up.rows;
    }

    /** Inputs; of a convolution its channels. */
    public int in() {
        return (int) shape[1];
    }

    public int rank() {
        return down.rows;
    }

    public boolean isConvolution() {
        return shape.length > 2;
    }
}

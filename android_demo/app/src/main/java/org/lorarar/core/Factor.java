package org.lorarar.core;

/**
 * A matrix of a LoRA, mapped: its numbers are read from the file each time they are asked for.
 *
 * <p>A convolution's kernel lies in the columns.
 */
public final class Factor {
    public final int rows;
    public final int columns;
    /** The narrowest dtype that holds the numbers of both of a layer's factors. */
    public final Dtype dtype;
    private final Safetensors.Entry entry;
    /** What each number is spread to: itself, in one of so many places of a kernel; or 1. */
    private final int kernel;

    private Factor(Safetensors.Entry entry, int rows, int columns, Dtype dtype, int kernel) {
        this.entry = entry;
        this.rows = rows;
        this.columns = columns;
        this.dtype = dtype;
        this.kernel = kernel;
    }

    /** A tensor as a matrix of so many rows. */
    static Factor of(Safetensors.Entry entry, long rows, Dtype dtype) {
        return new Factor(entry, (int) rows, (int) (entry.size() / rows), dtype, 1);
    }

    /**
     * down (rank, in) of a layer whose up has the kernel, as (rank kernel, in kernel): each of its
     * kernels has a single entry, so that the kernel moves from up to down.
     */
    static Factor spread(Safetensors.Entry entry, int kernel, Dtype dtype) {
        int rank = (int) entry.shape[0];
        int columns = (int) (entry.size() / rank) * kernel;
        return new Factor(entry, rank * kernel, columns, dtype, kernel);
    }

    /** The numbers in float32, (rows, columns) in row-major order, fresh. */
    public float[] values() {
        float[] stored = new float[(int) entry.size()];
        entry.dtype.widen(entry.bytes(), 0, stored);
        if (kernel == 1) {
            return stored;
        }
        float[] values = new float[rows * columns];
        int width = columns / kernel;
        for (int i = 0; i < stored.length; i++) {
            int rank = i / width;
            int column = i % width * kernel;
            for (int place = 0; place < kernel; place++) {
                int at = (rank * kernel + place) * columns + column;
                for (int other = 0; other < kernel; other++) {
                    values[at + other] = stored[i] * (place == other ? 1 : 0); // keeps NaN
                }
            }
        }
        return values;
    }
}

package org.lorarar.core;

/** What a program takes and gives: float32 values, or int64 for token ids, in row-major order. */
public final class Tensor {
    public final long[] shape;
    /** Null in a tensor of int64. */
    public final float[] floats;
    /** Null in a tensor of float32. */
    public final long[] longs;

    private Tensor(long[] shape, float[] floats, long[] longs) {
        this.shape = shape;
        this.floats = floats;
        this.longs = longs;
    }

    public static Tensor of(float[] values, long... shape) {
        checkSize(values.length, shape);
        return new Tensor(shape, values, null);
    }

    public static Tensor of(long[] values, long... shape) {
        checkSize(values.length, shape);
        return new Tensor(shape, null, values);
    }

    private static void checkSize(int given, long[] shape) {
        long size = 1;
        for (long axis : shape) {
            size *= axis;
        }
        if (size != given) {
            throw new IllegalArgumentException(given + " values for a shape of " + size);
        }
    }
}

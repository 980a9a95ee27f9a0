package org.lorarar.core;

/** A weight's shape as a matrix: (out, in times the kernel's size). */
final class MatrixShape implements Comparable<MatrixShape> {
    final long out;
    final long width;

    MatrixShape(long out, long width) {
        this.out = out;
        this.width = width;
    }

    static MatrixShape of(long[] shape) {
        return new MatrixShape(shape[0], Shapes.product(shape, 1));
    }

    @Override
    public int compareTo(MatrixShape other) {
        return out != other.out ? Long.compare(out, other.out) : Long.compare(width, other.width);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof MatrixShape && compareTo((MatrixShape) other) == 0;
    }

    @Override
    public int hashCode() {
        return (int) (31 * out + width);
    }

    @Override
    public String toString() {
        return out + "x" + width;
    }
}

package org.lorarar.core;

import java.util.Arrays;

/** What a file's two factors of a layer must be, and the layer that they make; see layer.py. */
final class Layers {
    private Layers() {
    }

    static void checkPart(Safetensors.Entry part, String layer, String source)
            throws LorararException {
        if (!part.dtype.isFloat()) {
            throw new LorararException(source + ": layer '" + layer + "' has " + part.dtype.numpy
                + " weights; save them as F32, F16 or BF16");
        }
    }

    static void checkRanks(
            Safetensors.Entry up, Safetensors.Entry down, String layer, String source)
            throws LorararException {
        if (up.shape.length < 2 || down.shape.length < 2 || up.shape[1] != down.shape[0]) {
            throw new LorararException(source + ": layer '" + layer + "' has up "
                + Shapes.text(up.shape) + " and down " + Shapes.text(down.shape)
                + ", whose ranks differ (swapped up and down?); save the LoRA again");
        }
    }

    /** The adapted weight's shape, with the kernel in whichever factor has it. */
    static MatrixShape matrixShape(Safetensors.Entry up, Safetensors.Entry down) {
        long kernel = Shapes.product(down.shape, 2) == 1 ? Shapes.product(up.shape, 2) : 1;
        return new MatrixShape(up.shape[0], Shapes.product(down.shape, 1) * kernel);
    }

    /** Whether the factors' own axes are a weight's of this shape, axes of 1 and flat kernels
     * aside. */
    static boolean fit(Safetensors.Entry up, Safetensors.Entry down, long[] shape) {
        long[] wanted = Arrays.copyOfRange(shape, 1, shape.length);
        if (Shapes.product(up.shape, 2) != 1) {
            long[] inside = Shapes.inside(down.shape);
            long[] both = Arrays.copyOf(inside, inside.length + up.shape.length - 2);
            System.arraycopy(up.shape, 2, both, inside.length, up.shape.length - 2);
            return Arrays.equals(both, wanted);
        }
        if (down.shape.length == 2) {
            return down.shape[1] == Shapes.product(shape, 1);
        }
        return Arrays.equals(Shapes.inside(down.shape), Shapes.inside(shape));
    }

    /**
     * Make a layer of a weight of this shape.
     *
     * @throws LorararException if its factors have more numbers than Java's arrays
     */
    static Layer make(
            Safetensors.Entry up, Safetensors.Entry down, double scale, long[] shape, String where)
            throws LorararException {
        Dtype dtype = common(up.dtype, down.dtype);
        long rank = down.shape[0];
        long kernel = up.size() > shape[0] * rank ? Shapes.product(up.shape, 2) : 1;
        double largest = Math.max(up.size(), (double) down.size() * kernel * kernel);
        if (largest * 8 > Integer.MAX_VALUE) {
            throw new LorararException(where + " has rank " + rank
                + ", whose factors are too large for this device; use lorarar on a computer");
        }
        Factor wide = kernel == 1
            ? Factor.of(down, rank, dtype) : Factor.spread(down, (int) kernel, dtype);
        return new Layer(Factor.of(up, shape[0], dtype), wide, (float) scale, shape);
    }

    /** The narrowest of F64, F32, F16 and BF16 that holds both. */
    static Dtype common(Dtype one, Dtype other) {
        Dtype wide = one.isShort() ? Dtype.F16 : one;
        Dtype otherWide = other.isShort() ? Dtype.F16 : other;
        if (wide == otherWide) {
            return wide;
        }
        return wide == Dtype.F64 || otherWide == Dtype.F64 ? Dtype.F64 : Dtype.F32;
    }
}

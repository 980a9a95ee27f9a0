package org.lorarar.core;

import java.util.Arrays;

/** Tensors' shapes: long[], outermost axis first. */
final class Shapes {
    private Shapes() {
    }

    /** The product of the axes from one on. */
    static long product(long[] shape, int from) {
        long product = 1;
        for (int i = from; i < shape.length; i++) {
            product *= shape[i];
        }
        return product;
    }

    /** As Python writes a tuple, for messages. */
    static String text(long[] shape) {
        if (shape.length == 1) {
            return "(" + shape[0] + ",)";
        }
        return Arrays.toString(shape).replace('[', '(').replace(']', ')');
    }

    /** The axes from one on, without the ones at the end; the first of them stays. */
    static long[] inside(long[] shape) {
        int kept = shape.length;
        while (kept > 2 && shape[kept - 1] == 1) {
            kept--;
        }
        return Arrays.copyOfRange(shape, 1, kept);
    }
}

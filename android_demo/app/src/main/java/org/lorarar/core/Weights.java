package org.lorarar.core;

/** Numbers of weights: whether they can be used, and as which dtype they are kept. */
final class Weights {
    private Weights() {
    }

    /**
     * Refuse what is not finite, naming the file to blame.
     *
     * @param dtype what the result is kept as, in numpy's words
     * @throws LorararException if a number is NaN or infinite
     */
    static void refuseBad(float[] result, String dtype, String layer, Lora... loras)
            throws LorararException {
        if (areFinite(result)) {
            return;
        }
        for (Lora lora : loras) {
            Layer blamed = lora.layers.get(layer);
            boolean isGood = blamed == null
                || areFinite(blamed.up.values()) && areFinite(blamed.down.values());
            if (!isGood) {
                throw new LorararException(lora.source + ": layer '" + layer
                    + "' has NaN or infinite weights; get it again");
            }
        }
        throw new LorararException(
            "layer '" + layer + "' overflows " + dtype + "; use smaller scales");
    }

    /** Refuse a LoRA with a number that is NaN or infinite. */
    static void refuseBad(Lora lora) throws LorararException {
        for (String name : lora.layers.keySet()) {
            Layer layer = lora.layers.get(name);
            refuseBad(layer.down.values(), layer.down.dtype.numpy, name, lora);
            refuseBad(layer.up.values(), layer.up.dtype.numpy, name, lora);
        }
    }

    static boolean areFinite(float[] values) {
        float zero = 0;
        for (float value : values) {
            zero += value * 0; // stays NaN once it is
        }
        return zero == 0;
    }

    /** Round to what a dtype can hold, to nearest, ties to even; too large becomes infinite. */
    static void round(float[] values, Dtype dtype) {
        for (int i = 0; dtype == Dtype.F16 && i < values.length; i++) {
            values[i] = half(values[i]);
        }
        for (int i = 0; dtype == Dtype.BF16 && i < values.length; i++) {
            values[i] = shortened(values[i], 16);
        }
    }

    private static float half(float value) {
        if (Math.abs(value) < 0x1p-14f) { // subnormal
            return (float) (Math.rint(value * 0x1p24) * 0x1p-24);
        }
        float rounded = shortened(value, 13);
        return Math.abs(rounded) > 65504 ? Math.copySign(Float.POSITIVE_INFINITY, value) : rounded;
    }

    /** Without so many of the mantissa's last bits. */
    private static float shortened(float value, int bits) {
        if (Float.isNaN(value)) {
            return value;
        }
        int all = Float.floatToRawIntBits(value);
        int half = (1 << bits - 1) - 1;
        return Float.intBitsToFloat((all + half + (all >> bits & 1)) >> bits << bits);
    }
}

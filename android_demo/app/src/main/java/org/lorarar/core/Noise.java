package org.lorarar.core;

/**
 * Unit Gaussian noise, bit for bit that of numpy's default_rng(seed).standard_normal(n, float32).
 *
 * <p>A SeedSequence seeds PCG64 (O'Neill 2014, XSL-RR), whose halves feed a ziggurat of 256 layers
 * (Marsaglia and Tsang 2000); only numbers in the tail, one in 4,000, may differ in their last bit,
 * as the logarithms of two libraries do.
 */
final class Noise {
    private static final double TAIL = 3.6541528853610087963519472518;
    private static final double AREA = 0.0049286732339746519; // of each layer
    private static final float INVERSE_TAIL = 0.27366123732975827203f;
    private static final long MULTIPLIER_HIGH = 2549297995355413924L;
    private static final long MULTIPLIER_LOW = 4865540595714422341L;
    private static final int[] INSIDE = new int[256]; // up to where a layer needs no second look
    private static final float[] WIDTH = new float[256];
    private static final float[] HEIGHT = new float[256];

    static {
        double[] edge = new double[257];
        edge[256] = AREA / density(TAIL);
        edge[255] = TAIL;
        for (int i = 254; i > 0; i--) {
            edge[i] = Math.sqrt(-2 * Math.log(AREA / edge[i + 1] + density(edge[i + 1])));
        }
        double unit = 1 << 23;
        for (int i = 1; i < 256; i++) {
            WIDTH[i] = (float) (edge[i] / unit);
            HEIGHT[i] = (float) density(edge[i]);
            INSIDE[i] = (int) Math.round(edge[i - 1] / edge[i] * unit);
        }
        WIDTH[0] = (float) (edge[256] / unit);
        HEIGHT[0] = 1;
        INSIDE[0] = (int) Math.round(TAIL / edge[256] * unit);
    }

    private long high;
    private long low;
    private final long incrementHigh;
    private final long incrementLow;
    private boolean hasHalf;
    private int half;

    /** seed: from 0 on. */
    Noise(long seed) {
        long[] words = SeedSequence.state(seed);
        incrementHigh = words[2] << 1 | words[3] >>> 63;
        incrementLow = words[3] << 1 | 1;
        step();
        add(words[0], words[1]);
        step();
    }

    /** The next numbers. */
    float[] draw(int count) {
        float[] drawn = new float[count];
        for (int i = 0; i < count; i++) {
            drawn[i] = next();
        }
        return drawn;
    }

    private float next() {
        while (true) {
            int bits = nextInt();
            int layer = bits & 0xff;
            int size = bits >>> 9;
            boolean negative = (bits >> 8 & 1) == 1;
            float x = size * WIDTH[layer];
            if (size < INSIDE[layer]) {
                return negative ? -x : x;
            }
            if (layer == 0) {
                return tail((size >> 8 & 1) == 1);
            }
            float height = (HEIGHT[layer - 1] - HEIGHT[layer]) * nextFloat() + HEIGHT[layer];
            if (height < Math.exp(-0.5 * x * x)) {
                return negative ? -x : x;
            }
        }
    }

    private float tail(boolean negative) {
        while (true) {
            float x = -INVERSE_TAIL * (float) Math.log1p(-nextFloat());
            float y = -(float) Math.log1p(-nextFloat());
            if (y + y > x * x) {
                float found = (float) TAIL + x;
                return negative ? -found : found;
            }
        }
    }

    private float nextFloat() {
        return (nextInt() >>> 8) * (1.0f / 16777216.0f);
    }

    /** The lower half of a number first, then its upper half. */
    private int nextInt() {
        if (hasHalf) {
            hasHalf = false;
            return half;
        }
        step();
        long next = Long.rotateRight(high ^ low, (int) (high >>> 58));
        half = (int) (next >>> 32);
        hasHalf = true;
        return (int) next;
    }

    private void step() {
        long product = multiplyHigh(low, MULTIPLIER_LOW);
        high = product + high * MULTIPLIER_LOW + low * MULTIPLIER_HIGH;
        low *= MULTIPLIER_LOW;
        add(incrementHigh, incrementLow);
    }

    private void add(long otherHigh, long otherLow) {
        low += otherLow;
        high += otherHigh + (Long.compareUnsigned(low, otherLow) < 0 ? 1 : 0);
    }

    /** The upper 64 bits of the unsigned product; Math.multiplyHigh is not on older phones. */
    private static long multiplyHigh(long one, long other) {
        long oneLow = one & 0xffffffffL;
        long otherLow = other & 0xffffffffL;
        long middle = (one >>> 32) * otherLow + (oneLow * otherLow >>> 32);
        long rest = oneLow * (other >>> 32) + (middle & 0xffffffffL);
        return (one >>> 32) * (other >>> 32) + (middle >>> 32) + (rest >>> 32);
    }

    private static double density(double x) {
        return Math.exp(-0.5 * x * x);
    }
}

package org.lorarar.core;

/** Pixels as Android's bitmaps take them, row after row, opaque. */
public final class Picture {
    public final int width;
    public final int height;
    public final int[] argb;

    Picture(int width, int height, int[] argb) {
        this.width = width;
        this.height = height;
        this.argb = argb;
    }

    /**
     * From (3, height, width) in [-1, 1], clipped.
     *
     * @throws LorararException if a pixel is not finite, as it would be black
     */
    static Picture of(float[] sample, int width, int height) throws LorararException {
        if (!Weights.areFinite(sample)) {
            throw new LorararException(
                "drew pixels that are not finite; lower guidance or LoRAs' scales");
        }
        int count = width * height;
        int[] argb = new int[count];
        for (int i = 0; i < count; i++) {
            argb[i] = 0xff000000 | level(sample[i]) << 16 | level(sample[count + i]) << 8
                | level(sample[2 * count + i]);
        }
        return new Picture(width, height, argb);
    }

    private static int level(float value) {
        float clipped = Math.min(1, Math.max(0, value / 2 + 0.5f));
        return (int) Math.rint(clipped * 255);
    }
}

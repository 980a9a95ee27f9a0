package org.lorarar.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import org.junit.Test;

public class PictureTest {
    @Test
    public void pixelsAreClippedAndOpaque() throws LorararException {
        float[] sample = {-1, 0, 1, 2, -9, 1};
        int[] wanted = {0xff00ff00, 0xff80ffff};
        assertArrayEquals(wanted, Picture.of(sample, 2, 1).argb);
    }

    @Test
    public void pixelsThatAreNotFiniteAreRefused() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
            float[] sample = {0, bad, 0};
            try {
                Picture.of(sample, 1, 1);
                fail("drawn with " + bad);
            } catch (LorararException error) {
                assertTrue(error.getMessage().contains("not finite"));
            }
        }
    }
}

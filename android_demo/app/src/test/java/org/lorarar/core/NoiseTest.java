package org.lorarar.core;

import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import org.junit.Test;

public class NoiseTest {
    private static final int MOST_OFF = 10; // of a million: the tail's logarithms

    @Test
    public void isThatOfNumpyForAnySeed() throws IOException {
        for (Object seed : Fields.list(DrawingVectors.json("noise.json"), "seeds")) {
            File file = new File(DrawingVectors.FOLDER, "noise-" + seed + ".f32");
            float[] wanted = DrawingVectors.floats(file);
            float[] found = new Noise(Long.parseLong((String) seed)).draw(wanted.length);
            int off = 0;
            for (int i = 0; i < wanted.length; i++) {
                off += wanted[i] == found[i] ? 0 : 1;
                assertTrue("seed " + seed + " at " + i,
                    Math.abs(wanted[i] - found[i]) <= Math.ulp(wanted[i]));
            }
            assertTrue(off + " off", off <= MOST_OFF);
        }
    }
}

package org.lorarar.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/** What make/vectors_drawing.py writes. */
final class DrawingVectors {
    static final File FOLDER = new File(System.getProperty("lorarar.vectors"), "drawing");

    private DrawingVectors() {
    }

    static Object json(String name) throws IOException {
        return Json.parse(Files.text(new File(FOLDER, name)));
    }

    static List<Fields> rows(Object list) {
        List<Fields> rows = new ArrayList<>();
        for (Object row : Fields.list(list, "rows")) {
            rows.add(Fields.object(row, "row"));
        }
        assertTrue("there are rows", !rows.isEmpty());
        return rows;
    }

    /** Little-endian float32. */
    static float[] floats(File file) throws IOException {
        byte[] bytes = java.nio.file.Files.readAllBytes(file.toPath());
        float[] values = new float[bytes.length / 4];
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values);
        return values;
    }

    static void assertClose(String what, float[] wanted, float[] found, double tolerance) {
        assertEquals(what, wanted.length, found.length);
        double largest = 1;
        for (float value : wanted) {
            largest = Math.max(largest, Math.abs(value));
        }
        for (int i = 0; i < wanted.length; i++) {
            assertEquals(what + " at " + i, wanted[i], found[i], tolerance * largest);
        }
    }

    /**
     * The same of what is rounded to float16 or bfloat16: where the numbers before are a hair
     * apart, one in a thousand may be rounded to the neighbour.
     */
    static void assertCloseRounded(String what, float[] wanted, float[] found, double lastPlace) {
        assertEquals(what, wanted.length, found.length);
        int others = 0;
        for (int i = 0; i < wanted.length; i++) {
            double apart = Math.abs(wanted[i] - found[i]);
            others += apart <= 1e-5 * Math.abs(wanted[i]) ? 0 : 1;
            assertEquals(what + " at " + i, wanted[i], found[i],
                lastPlace * Math.abs(wanted[i]) + 0x1p-23);
        }
        assertTrue(what + ": " + others + " others", others <= wanted.length / 1000);
    }
}

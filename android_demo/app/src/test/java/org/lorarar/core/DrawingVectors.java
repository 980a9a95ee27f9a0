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
        for (int i = 0; i < wanted.length; i++) {
            double most = tolerance * Math.max(1, Math.abs(wanted[i]));
            assertEquals(what + " at " + i, wanted[i], found[i], most);
        }
    }
}

package org.lorarar.core;

import static org.junit.Assert.assertEquals;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.Test;

public class MergeTest {
    private static final File FOLDER = new File(DrawingVectors.FOLDER, "merges");

    private static Lora load(String name, LayerNames names) throws LorararException {
        return Lora.load(new File(FOLDER, name), names);
    }

    private static String said(LorararException error) {
        return error.getMessage().replace(FOLDER.toString(), "{folder}");
    }

    private static float[] factors(Slots slots, PipelineManifest manifest)
            throws LorararException {
        List<float[]> all = new ArrayList<>();
        for (Stage stage : manifest.stages("unet")) {
            for (Tensor factor : slots.of(stage)) {
                all.add(factor.floats);
            }
        }
        return joined(all);
    }

    private static float[] joined(List<float[]> arrays) {
        int size = 0;
        for (float[] array : arrays) {
            size += array.length;
        }
        float[] all = new float[size];
        int at = 0;
        for (float[] array : arrays) {
            System.arraycopy(array, 0, all, at, array.length);
            at += array.length;
        }
        return all;
    }

    @Test
    public void pairsGetTheCoefficientsAndFactorsOfPython() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("merges/merges.json"), "merges");
        LayerNames names = LayerNames.parse(Files.text(new File(FOLDER, "names.json")));
        PipelineManifest manifest = PipelineManifest.read(FOLDER);
        Merger merger = Merger.open(new File("merger"), new HypernetEngine(FOLDER));
        for (Fields row : DrawingVectors.rows(all.get("pairs"))) {
            Object message = null;
            try {
                Lora content = load(row.text("content"), names);
                Lora style = load(row.text("style"), names);
                float contentScale = ((Number) row.list("scales").get(0)).floatValue();
                float styleScale = ((Number) row.list("scales").get(1)).floatValue();
                Merged merged = Merged.of(
                    content, style, contentScale, styleScale, merger, manifest, "folder");
                compare(row, merged, manifest, content.layers.values().iterator().next());
            } catch (LorararException error) {
                message = said(error);
            }
            assertEquals(
                row.map.toString(), anyLayer(row.get("message")), anyLayer(message));
        }
    }

    /** Of several that overflow, Python names the LoRA's first, Java the UNet's. */
    private static String anyLayer(Object message) {
        return String.valueOf(message).replaceAll("^layer '.*' overflows", "a layer overflows");
    }

    private static void compare(
            Fields row, Merged merged, PipelineManifest manifest, Layer content)
            throws IOException {
        String what = row.map.toString();
        if (row.get("message") != null) {
            return;
        }
        List<float[]> m = new ArrayList<>();
        for (Map.Entry<String, float[][]> entry : merged.coefficients.entrySet()) {
            m.add(entry.getValue()[0]);
            m.add(entry.getValue()[1]);
        }
        assertEquals(what, row.list("layers"), new ArrayList<>(merged.coefficients.keySet()));
        String file = row.text("file");
        DrawingVectors.assertClose(what + " m",
            DrawingVectors.floats(new File(FOLDER, file + ".m.f32")), joined(m), 1e-5);
        float[] wanted = DrawingVectors.floats(new File(FOLDER, file + ".f32"));
        float[] found = factors(merged.slots, manifest);
        if (content.up.dtype == Dtype.F32) {
            DrawingVectors.assertClose(what, wanted, found, 1e-5);
        } else {
            double lastPlace = content.up.dtype == Dtype.F16 ? 0x1p-10 : 0x1p-7;
            DrawingVectors.assertCloseRounded(what, wanted, found, lastPlace);
        }
    }

    @Test
    public void oneAloneGetsTheFactorsOfPython() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("merges/merges.json"), "merges");
        LayerNames names = LayerNames.parse(Files.text(new File(FOLDER, "names.json")));
        PipelineManifest manifest = PipelineManifest.read(FOLDER);
        for (Fields row : DrawingVectors.rows(all.get("alone"))) {
            String name = row.text("lora");
            Object message = null;
            try {
                Slots slots = new Slots(Share.alone(load(name, names)), manifest, "folder");
                DrawingVectors.assertClose(name,
                    DrawingVectors.floats(new File(FOLDER, name + ".f32")),
                    factors(slots, manifest), 1e-6);
            } catch (LorararException error) {
                message = said(error);
            }
            assertEquals(name, row.get("message"), message);
        }
    }
}

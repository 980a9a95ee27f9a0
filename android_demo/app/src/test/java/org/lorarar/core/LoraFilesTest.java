package org.lorarar.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.Test;

/** Every file of vectors_loras.py is read, or refused, as Python reads or refuses it. */
public class LoraFilesTest {
    // The reasons that the safetensors library gives Python are its own.
    private static final String[] REASONS = {
        "not a valid safetensors file \\((?s:.*)\\); get it again",
        "adapter_config\\.json: cannot be read \\((?s:.*)\\); get the adapter again",
    };

    private final File folder = new File(System.getProperty("lorarar.vectors"), "loras");

    private static String text(File file) throws IOException {
        return new String(Files.readAllBytes(file.toPath()), StandardCharsets.UTF_8);
    }

    private LayerNames names() throws IOException {
        return LayerNames.parse(text(new File(folder, "names.json")));
    }

    @Test
    public void everyFileGetsPythonsVerdict() throws Exception {
        LayerNames names = names();
        List<String> failures = new ArrayList<>();
        int read = 0;
        List<?> verdicts = (List<?>) Json.parse(text(new File(folder, "verdicts.json")));
        for (Object each : verdicts) {
            Map<?, ?> wanted = (Map<?, ?>) each;
            try {
                read += check(wanted, names) ? 1 : 0;
            } catch (AssertionError | RuntimeException error) {
                failures.add(wanted.get("file") + ": " + error);
            }
        }
        assertTrue(
            failures.size() + " of " + verdicts.size() + ":\n" + String.join("\n", failures),
            failures.isEmpty());
        assertTrue(read > 200 && read < verdicts.size() - 200);
    }

    /** Whether it was read. */
    private boolean check(Map<?, ?> wanted, LayerNames names) throws Exception {
        Lora lora;
        try {
            lora = Lora.load(new File(folder, (String) wanted.get("file")), names);
        } catch (LorararException error) {
            String found = error.getMessage().replace(folder.toString(), "{folder}");
            assertEquals(ours((String) wanted.get("message")), ours(found));
            return false;
        }
        assertNull(wanted.get("message"));
        assertEquals(wanted.get("notes"), lora.notes);
        assertEquals(wanted.get("bases"), lora.bases);
        assertEquals(wanted.get("metadata"), lora.metadata);
        Map<?, ?> layers = (Map<?, ?>) wanted.get("layers");
        assertEquals(new ArrayList<>(layers.keySet()), new ArrayList<>(lora.layers.keySet()));
        for (Map.Entry<String, Layer> layer : lora.layers.entrySet()) {
            Map<?, ?> about = (Map<?, ?>) layers.get(layer.getKey());
            check((Map<?, ?>) about.get("up"), layer.getValue().up, layer.getValue().up.values());
            check((Map<?, ?>) about.get("down"), layer.getValue().down,
                layer.getValue().down.values());
            float scale = ((Number) about.get("scale")).floatValue();
            assertEquals(scale, layer.getValue().scale, 0);
        }
        check((Map<?, ?>) wanted.get("prepared"), lora);
        return true;
    }

    private static String ours(String message) {
        String kept = String.valueOf(message);
        for (String reason : REASONS) {
            kept = kept.replaceAll(reason, "(...)");
        }
        return kept;
    }

    private static void check(Map<?, ?> wanted, Factor found, float[] values) throws Exception {
        assertEquals(wanted.get("shape"), Arrays.asList((long) found.rows, (long) found.columns));
        assertEquals(wanted.get("dtype"), found.dtype.numpy);
        assertEquals(wanted.get("sha256"), sha256(values));
    }

    private static void check(Map<?, ?> wanted, Lora lora) throws Exception {
        if (wanted == null) {
            assertNull(lora.prepared);
            return;
        }
        assertEquals(wanted.get("role"), lora.prepared.role);
        assertEquals(wanted.get("level"), lora.prepared.level);
        assertEquals(wanted.get("fingerprint"), lora.prepared.fingerprint);
        assertEquals(wanted.get("error"), lora.prepared.error);
        Map<?, ?> features = (Map<?, ?>) wanted.get("features");
        assertEquals(features.keySet(), lora.prepared.features.keySet());
        for (String layer : lora.prepared.features.keySet()) {
            Feature kept = lora.keptFeature(layer);
            check((Map<?, ?>) features.get(layer), kept.values, kept.values());
        }
    }

    private static String sha256(float[] values) throws NoSuchAlgorithmException {
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            bytes.putInt(Float.floatToIntBits(value)); // one NaN for all
        }
        StringBuilder digits = new StringBuilder();
        for (byte each : MessageDigest.getInstance("SHA-256").digest(bytes.array())) {
            digits.append(String.format("%02x", each));
        }
        return digits.toString();
    }

    private String refusal(Lora lora, String role, String fingerprint) {
        try {
            lora.checkPrepared(role, fingerprint, "merger");
            return null;
        } catch (LorararException error) {
            return error.getMessage();
        }
    }

    @Test
    public void aPreparedLoraIsOfOneRoleAndOneHypernetwork() throws Exception {
        File file = new File(folder, "prepared-small-style.safetensors");
        Lora lora = Lora.load(file, names());
        assertNull(refusal(lora, "style", lora.prepared.fingerprint));
        assertEquals(file + ": prepared as style but used as content; "
            + "run: lorarar prepare --role content",
            refusal(lora, "content", lora.prepared.fingerprint));
        assertEquals(file + ": prepared for another hypernetwork than merger; "
            + "run lorarar prepare with this one", refusal(lora, "style", "x"));
        Lora plain = Lora.load(new File(folder, "mini-all.safetensors"), names());
        assertNull(refusal(plain, "content", "x"));
        try {
            plain.keptFeature("unet.x");
            assertTrue("no refusal", false);
        } catch (LorararException error) {
            assertTrue(error.getMessage().endsWith(
                ": layer 'unet.x' has no features; run lorarar prepare again"));
        }
    }

    @Test
    public void whatIsNoFileIsSaidToBeNone() throws Exception {
        for (String[] each : new String[][] {
            {"", "is a directory; name a .safetensors file"},
            {"none", "does not exist; name a .safetensors file"},
            {"x.onnx_adapter", "is an adapter of ONNX Runtime, which needs ONNX Runtime; "
                + "name the .safetensors file it was exported from"},
        }) {
            File file = each[0].isEmpty() ? folder : new File(folder, each[0]);
            try {
                Lora.load(file, names());
                assertTrue("no refusal of " + file, false);
            } catch (LorararException error) {
                assertEquals(file + ": " + each[1], error.getMessage());
            }
        }
    }
}

package org.lorarar.core;

import java.io.File;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What a runtime must know of an exported hypernetwork; it travels inside.
 *
 * <p>The format: lorarar/artefacts/merger.py.
 */
public final class MergerManifest {
    private static final String FORMAT = "lorarar.merger.1";

    public final List<Long> widths;
    public final int hidden;
    /** Suffixes of the attention projections that it predicts. */
    public final List<String> predicts;
    public final String dtype;
    public final String fingerprint;
    /** Layer -> what is added to a graph's m, (2, in). */
    final Map<String, float[][]> offsets = new HashMap<>();

    private MergerManifest(Fields fields) {
        widths = fields.wholes("widths");
        hidden = fields.small("hidden");
        predicts = fields.texts("predicts");
        dtype = fields.text("dtype");
        fingerprint = fields.text("fingerprint");
        String packed = fields.map.containsKey("offsets") ? fields.text("offsets") : "";
        if (!packed.isEmpty()) {
            offsets.putAll(Offsets.unpacked(packed));
        }
    }

    /** @throws LorararException if the text is no manifest of a format known here */
    static MergerManifest parse(String text, File source) throws LorararException {
        String reason;
        try {
            Fields fields = new Fields(Json.object(text));
            if (FORMAT.equals(fields.get("format"))) {
                MergerManifest manifest = new MergerManifest(fields);
                if (manifest.dtype.equals("fp32")) {
                    return manifest;
                }
                throw new LorararException(source + ": its dtype is " + manifest.dtype
                    + ", but this version takes fp32; export it again with --dtype fp32");
            }
            reason = "format " + PythonText.of(fields.get("format"))
                + ", but this version reads " + FORMAT;
        } catch (IllegalArgumentException error) {
            reason = "no manifest of an exported hypernetwork: " + error.getMessage();
        }
        throw new LorararException(
            source + ": " + reason + "; export it again with this version");
    }

    /** Whether a layer is an attention projection of the UNet with one of the suffixes. */
    boolean predicts(String layer) {
        if (!layer.startsWith("unet.") || !layer.contains(".attn")) {
            return false;
        }
        for (String suffix : predicts) {
            if (layer.endsWith(suffix)) {
                return true;
            }
        }
        return false;
    }
}

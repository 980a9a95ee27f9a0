package org.lorarar.core;

import java.io.File;
import java.io.FileNotFoundException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a runtime must know of an exported folder: its lorarar.json.
 *
 * <p>The format: lorarar/artefacts/pipeline.py.
 */
public final class PipelineManifest {
    public static final String NAME = "lorarar.json";
    private static final String FORMAT = "lorarar.pipeline.2";
    private static final String[][] ENGINES = { // of each format
        {"onnx", "onnxruntime"}, {"executorch", "executorch"}, {"coreml", "coreml"},
    };

    public final String engine;
    public final String quantize;
    public final String base;
    /** Of the UNet's weights. */
    public final String identity;
    public final boolean pairs;
    /** The largest of a LoRA. */
    public final int rank;
    public final int tokens;
    public final boolean zerosForEmpty;
    public final int channels;
    /** Of latents, in cells of `pixels` pixels. */
    public final int side;
    public final int pixels;
    /** Of latents. */
    public final float scaling;
    /** Path of the exported hypernetwork in the folder, or null. */
    public final String merger;
    /** Path -> its bytes. */
    public final Map<String, Long> sizes = new LinkedHashMap<>();
    /** Path -> its SHA-256. */
    public final Map<String, String> hashes = new LinkedHashMap<>();
    final String slotDtype;
    /** The output of each text encoder that the UNet reads. */
    final Map<String, String> penultimate = new LinkedHashMap<>();
    final Map<String, List<Stage>> parts = new LinkedHashMap<>();
    /** The UNet's attention projections, without "unet." -> (out, in). */
    final Map<String, int[]> projections = new LinkedHashMap<>();

    private PipelineManifest(Fields fields) {
        engine = fields.text("engine");
        quantize = fields.text("quantize");
        base = fields.text("base");
        identity = fields.text("identity");
        slotDtype = fields.text("slot_dtype");
        pairs = fields.flag("pairs");
        rank = fields.small("rank");
        tokens = fields.small("tokens");
        zerosForEmpty = fields.flag("zeros_for_empty");
        channels = fields.small("channels");
        side = fields.small("side");
        pixels = fields.small("pixels");
        scaling = (float) fields.number("scaling");
        merger = fields.get("merger") == null ? null : inside(fields.text("merger"));
        Fields outputs = fields.object("penultimate");
        for (String part : outputs.map.keySet()) {
            penultimate.put(part, outputs.text(part));
        }
        Fields given = fields.object("parts");
        for (String part : given.map.keySet()) {
            List<Stage> stages = new ArrayList<>();
            for (Object stage : given.list(part)) {
                stages.add(new Stage(Fields.object(stage, part)));
            }
            parts.put(part, stages);
        }
        for (Stage stage : stages("unet")) {
            projections.putAll(stage.projections);
        }
        Fields files = fields.object("files");
        for (String path : files.map.keySet()) {
            List<Object> sizeAndHash = files.list(path);
            sizes.put(inside(path), Fields.as(Long.class, sizeAndHash.get(0), path));
            hashes.put(path, Fields.as(String.class, sizeAndHash.get(1), path));
        }
        engineOf(engine);
    }

    /**
     * Read a folder's manifest.
     *
     * @throws LorararException if there is none, if it is damaged, or of a format unknown here
     */
    public static PipelineManifest read(File folder) throws LorararException {
        File file = new File(folder, NAME);
        String reason;
        try {
            Map<String, Object> fields = Json.object(Files.text(file));
            if (FORMAT.equals(fields.get("format"))) {
                return new PipelineManifest(new Fields(fields));
            }
            reason = "format " + PythonText.of(fields.get("format"))
                + ", but this version reads " + FORMAT;
        } catch (LorararException error) {
            Throwable cause = error.getCause();
            boolean isMissing = cause instanceof FileNotFoundException && !file.exists();
            String why = isMissing ? "No such file or directory" : error.getMessage();
            reason = "no exported pipeline (" + why + ")";
        } catch (IllegalArgumentException | IndexOutOfBoundsException error) {
            reason = "damaged (" + error.getMessage() + ")";
        }
        throw new LorararException(
            file + ": " + reason + "; export the model again with this version");
    }

    /** @throws IllegalArgumentException if a path leads out of the folder */
    static String inside(String path) {
        if (path.startsWith("/") || Arrays.asList(path.split("/")).contains("..")) {
            throw new IllegalArgumentException(
                "ValueError(\"'" + path + "' is outside the folder\")");
        }
        return path;
    }

    private static String engineOf(String format) {
        StringBuilder known = new StringBuilder();
        for (String[] each : ENGINES) {
            if (each[0].equals(format)) {
                return each[1];
            }
            known.append(known.length() == 0 ? "" : ", ").append(each[0]);
        }
        throw new IllegalArgumentException(
            "ValueError(\"engine '" + format + "' is none of " + known + "\")");
    }

    /** A part's stages, in the order of running. */
    List<Stage> stages(String part) {
        List<Stage> stages = parts.get(part);
        if (stages == null || stages.isEmpty()) {
            throw new IllegalArgumentException("KeyError('" + part + "')");
        }
        return stages;
    }

    /** @throws LorararException unless ExecuTorch runs the folder, with one slot for LoRAs */
    void checkEngine(File folder) throws LorararException {
        if (!engine.equals("executorch")) {
            throw new LorararException(
                folder + ": was exported for " + engineOf(engine) + ", not for executorch");
        }
        if (pairs || !slotDtype.equals("float32")) {
            throw new LorararException(folder + ": takes LoRAs in pairs or as " + slotDtype
                + ", but this version takes one of float32; export the model again");
        }
    }

    /**
     * Check that every listed file is there, of its size and with its hash.
     *
     * @param withHashes whether to read every file
     * @throws LorararException that names the first which is not
     */
    public void checkFiles(File folder, boolean withHashes) throws LorararException {
        for (Map.Entry<String, Long> entry : sizes.entrySet()) {
            File file = new File(folder, entry.getKey());
            if (!file.isFile()) {
                throw new LorararException(file + ": is missing; export the model again");
            }
            String wrong = null;
            if (file.length() != entry.getValue()) {
                wrong = "size";
            } else if (withHashes && !Files.sha256(file).equals(hashes.get(entry.getKey()))) {
                wrong = "SHA-256";
            }
            if (wrong != null) {
                throw new LorararException(file + ": its " + wrong + " is not what " + NAME
                    + " says, so it is damaged; export the model again");
            }
        }
    }
}

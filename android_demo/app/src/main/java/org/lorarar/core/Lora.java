package org.lorarar.core;

import java.io.File;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A LoRA: its layers by canonical name ('unet.' and 'text_encoder*.' included). */
public final class Lora {
    public final Map<String, Layer> layers;
    public final Map<String, String> metadata;
    /** The file's path, which messages name. */
    public final String source;
    /** Null if it is not prepared. */
    public final Prepared prepared;
    /** What a reader of its file should know, as what was left out; a line each. */
    public final List<String> notes;
    /** The known base models that it can be for, the likeliest first. */
    public final List<String> bases;
    /** Whether all weights were found finite; then they are not looked at again. */
    private boolean isFinite;

    private Lora(LoraSource from, LoraLayers named, LayerNames names) throws LorararException {
        Map<String, Layer> made = new LinkedHashMap<>();
        Map<String, MatrixShape> shapes = new LinkedHashMap<>();
        source = from.file.file.toString();
        for (Map.Entry<String, Map<String, Safetensors.Entry>> each : named.parts.entrySet()) {
            String name = each.getKey();
            Map<String, Safetensors.Entry> parts = each.getValue();
            long[] shape = named.base.shapes.get(name);
            double scale = from.scale(name, parts);
            String where = source + ": layer '" + name + "'";
            made.put(name, Layers.make(parts.get("up"), parts.get("down"), scale, shape, where));
            shapes.put(name, MatrixShape.of(shape));
        }
        layers = Collections.unmodifiableMap(made);
        metadata = from.file.metadata;
        prepared = Prepared.read(from, layers);
        notes = Collections.unmodifiableList(named.notes);
        bases = Collections.unmodifiableList(names.basesWith(shapes));
    }

    /**
     * Read a LoRA of an SDXL-class base in a .safetensors file, whatever tool wrote it.
     *
     * <p>Takes the names of kohya's sd-scripts, of diffusers (new and old), ComfyUI, PEFT and
     * LyCORIS' LoCon. Weights stay on disk until they are used. The twin of load_lora.
     *
     * @throws LorararException for bad files, LoRAs that are not plain and LoRAs of another base
     */
    public static Lora load(File file, LayerNames names) throws LorararException {
        LoraSource source = LoraSource.open(file);
        return new Lora(source, new LoraLayers(source, names), names);
    }

    /** @throws LorararException if a weight is NaN or infinite */
    void refuseBadWeights() throws LorararException {
        if (!isFinite) {
            Weights.refuseBad(this);
            isFinite = true;
        }
    }

    /** @throws LorararException if this was prepared for another role or hypernetwork */
    public void checkPrepared(String role, String fingerprint, String hypernetSource)
            throws LorararException {
        if (prepared != null && !prepared.role.equals(role)) {
            throw new LorararException(source + ": prepared as " + prepared.role + " but used as "
                + role + "; run: lorarar prepare --role " + role);
        }
        if (prepared != null && !prepared.fingerprint.equals(fingerprint)) {
            throw new LorararException(source + ": prepared for another hypernetwork than "
                + hypernetSource + "; run lorarar prepare with this one");
        }
    }

    /** @throws LorararException if this lacks the layer's features */
    public Feature keptFeature(String layer) throws LorararException {
        Feature kept = prepared == null ? null : prepared.features.get(layer);
        if (kept == null) {
            throw new LorararException(source + ": layer '" + layer
                + "' has no features; run lorarar prepare again");
        }
        return kept;
    }
}

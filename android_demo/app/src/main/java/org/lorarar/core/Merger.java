package org.lorarar.core;

import java.io.File;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Merging through an exported hypernetwork, the twin of lorarar.runtime.merger. */
public final class Merger implements AutoCloseable {
    private static final String[] ROLES = {"content", "style"};

    public final MergerManifest manifest;
    private final Program program;
    private final String source;

    private Merger(MergerManifest manifest, Program program, String source) {
        this.manifest = manifest;
        this.program = program;
        this.source = source;
    }

    /** @throws LorararException if the file is damaged or of a newer format */
    public static Merger open(File pte, Engine engine) throws LorararException {
        Program program = engine.open(pte);
        boolean isOpen = false;
        try {
            MergerManifest manifest = MergerManifest.parse(program.text("manifest"), pte);
            isOpen = true;
            return new Merger(manifest, program, pte.toString());
        } finally {
            if (!isOpen) {
                program.close();
            }
        }
    }

    /**
     * Predict m = (m_c, m_s), (2, in), for each layer that the hypernetwork covers.
     *
     * <p>Uses what both LoRAs have prepared alike, else their factors. A layer that one of them
     * lacks counts as zero there.
     *
     * @throws LorararException for LoRAs that do not fit together or the hypernetwork
     */
    public Map<String, float[][]> coefficients(Lora content, Lora style) throws LorararException {
        Lora[] pair = {content, style};
        for (int side = 0; side < 2; side++) {
            pair[side].checkPrepared(ROLES[side], manifest.fingerprint, source);
        }
        String form = form(content, style);
        Map<String, float[][]> coefficients = new LinkedHashMap<>();
        for (String name : predictedLayers(content, style)) {
            coefficients.put(name, predict(name, pair, form));
        }
        return coefficients;
    }

    private List<String> predictedLayers(Lora content, Lora style) throws LorararException {
        List<String> names = new ArrayList<>();
        for (String name : Share.names(content, style)) {
            if (manifest.predicts(name)) {
                Share.checkPair(name, content, style);
                names.add(name);
            }
        }
        if (names.isEmpty()) {
            throw new LorararException(content.source + ", " + style.source + ": no layer that "
                + source + " predicts; use --method direct");
        }
        return names;
    }

    private float[][] predict(String name, Lora[] pair, String form) throws LorararException {
        Layer first = pair[pair[0].layers.containsKey(name) ? 0 : 1].layers.get(name);
        if (!manifest.widths.contains((long) first.out())) {
            throw new LorararException(source + ": layer '" + name + "' has out width "
                + first.out() + ", but this artefact knows " + manifest.widths
                + "; export a hypernetwork for this base model");
        }
        List<Tensor> inputs = new ArrayList<>();
        for (Lora lora : pair) {
            addInputs(name, lora, form, first, inputs);
        }
        float[] m = run(form + "_" + first.out(), inputs.toArray(new Tensor[0]));
        int columns = m.length / 2;
        float[][] offset = manifest.offsets.get(name);
        if (offset != null && offset[0].length != columns) {
            throw new LorararException(source + ": layer '" + name + "' has " + columns
                + " columns, but this hypernetwork was trained for " + offset[0].length
                + "; give one trained for this base model");
        }
        for (int i = 0; offset != null && i < m.length; i++) {
            m[i] += offset[i / columns][i % columns];
        }
        Weights.refuseBad(m, "float32", name, pair);
        float[][] sides = new float[2][columns];
        System.arraycopy(m, 0, sides[0], 0, columns);
        System.arraycopy(m, columns, sides[1], 0, columns);
        return sides;
    }

    private float[] run(String graph, Tensor[] inputs) throws LorararException {
        try {
            return program.run(graph, inputs)[0].floats;
        } catch (LorararException error) {
            StringBuilder shapes = new StringBuilder();
            for (Tensor input : inputs) {
                shapes.append(shapes.length() == 0 ? "" : ", ");
                shapes.append(input.shape[0]).append('x').append(input.shape[1]);
            }
            throw new LorararException(source + ": '" + graph + "' cannot take " + shapes
                + "; its ranks and widths have a limit, reduce the rank with: "
                + "lorarar merge --rank (" + error.getMessage() + ")", error);
        }
    }

    /** One side's inputs of a graph, for a layer of the shape of `shaped`. */
    private void addInputs(
            String name, Lora lora, String form, Layer shaped, List<Tensor> inputs)
            throws LorararException {
        int hidden = manifest.hidden;
        int in = shaped.down.columns;
        Layer layer = lora.layers.get(name);
        boolean isFull = form.equals("full");
        if (layer == null) {
            int rows = isFull || form.equals("small") ? hidden : shaped.out();
            inputs.add(Tensor.of(new float[isFull ? rows * in : rows], rows, isFull ? in : 1));
            if (!isFull) {
                inputs.add(Tensor.of(new float[in], 1, in));
            }
            return;
        }
        if (form.equals("factored")) {
            float[] up = layer.up.values();
            for (int i = 0; layer.scale != 1 && i < up.length; i++) {
                up[i] *= layer.scale;
            }
            inputs.add(Tensor.of(up, layer.out(), layer.rank()));
        } else {
            int columns = isFull ? in : layer.rank();
            inputs.add(Tensor.of(feature(name, lora, hidden * columns), hidden, columns));
        }
        if (!isFull) {
            inputs.add(Tensor.of(layer.down.values(), layer.rank(), in));
        }
    }

    private float[] feature(String name, Lora lora, int size) throws LorararException {
        float[] values = lora.keptFeature(name).values.values();
        if (values.length != size) {
            throw new LorararException(lora.source + ": its metadata 'lorarar.prepared' does not "
                + "fit its tensors; run lorarar prepare again");
        }
        return values;
    }

    /** The form that uses what both have prepared, if it can be taken. */
    private static String form(Lora content, Lora style) {
        String one = content.prepared == null ? "" : content.prepared.level;
        String other = style.prepared == null ? "" : style.prepared.level;
        if (one.equals("small") && other.equals("small")) {
            return "small";
        }
        return isFull(one) && isFull(other) ? "full" : "factored";
    }

    private static boolean isFull(String level) {
        return level.equals("full-fp32") || level.equals("full-fp16");
    }

    @Override
    public void close() {
        program.close();
    }
}

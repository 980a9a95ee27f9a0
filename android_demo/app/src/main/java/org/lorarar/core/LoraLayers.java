package org.lorarar.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A LoRA's tensors sorted by layer: every one is a part of a layer, or is spoken of.
 *
 * <p>The twin of lorarar/formats/named_layers.py, for plain LoRAs: the same order of checks, the
 * same words.
 */
final class LoraLayers {
    /** Canonical layer -> part ("up", "down", "alpha") -> tensor. */
    final Map<String, Map<String, Safetensors.Entry>> parts = new LinkedHashMap<>();
    /** The likeliest base. */
    final Base base;
    /** What was left out, a line each. */
    final List<String> notes = new ArrayList<>();

    private final LoraSource source;
    private final String path;
    private final LayerNames names;

    /**
     * Read a LoRA's tensors, each under its layer of an SDXL-class base.
     *
     * @throws LorararException for LoRAs that are not plain, layers without all of their factors,
     *     and layers of other bases
     */
    LoraLayers(LoraSource source, LayerNames names) throws LorararException {
        this.source = source;
        this.path = source.file.file.toString();
        this.names = names;
        source.refuseDora(remedy());
        List<String> others = new ArrayList<>();
        Map<String, Map<String, String>> named = byLayer(others);
        noteOthers(others);
        refuseUntaken(named);
        Map<String, Map<String, Safetensors.Entry>> found = new LinkedHashMap<>();
        for (Map.Entry<String, Map<String, String>> layer : named.entrySet()) {
            Map<String, Safetensors.Entry> tensors = new LinkedHashMap<>();
            for (Map.Entry<String, String> part : layer.getValue().entrySet()) {
                tensors.put(part.getKey(), source.file.tensors.get(part.getValue()));
            }
            found.put(layer.getKey(), tensors);
        }
        leaveOutAlphasAlone(found);
        Map<String, MatrixShape> shapes = matrixShapes(found);
        leaveOutEmpty(found, shapes);
        refuseNothing(found);
        Map<String, String> canonical = new HashMap<>();
        base = resolve(shapes, canonical);
        for (Map.Entry<String, Map<String, Safetensors.Entry>> layer : found.entrySet()) {
            String name = canonical.get(layer.getKey());
            checkFit(layer.getKey(), layer.getValue(), base.shapes.get(name));
            parts.put(name, layer.getValue());
        }
    }

    private Map<String, Map<String, String>> byLayer(List<String> others)
            throws LorararException {
        Map<String, Map<String, String>> layers = new LinkedHashMap<>();
        for (String tensor : source.file.tensors.keySet()) {
            Naming.Tensor found = names.naming.split(tensor);
            if (found == null) {
                others.add(tensor);
                continue;
            }
            Map<String, String> parts = layers.get(found.layer);
            if (parts == null) {
                parts = new LinkedHashMap<>();
                layers.put(found.layer, parts);
            }
            String twin = parts.get(found.part);
            if (twin != null) {
                throw new LorararException(path + ": tensors '" + twin + "' and '" + tensor
                    + "' are the same part of a layer, of several adapters in one file; "
                    + "save one alone");
            }
            parts.put(found.part, tensor);
        }
        return layers;
    }

    /** Refuse tensors that do something to a layer, or make something else of the file. */
    private void noteOthers(List<String> others) throws LorararException {
        for (String name : others) {
            String kind = Refusals.kindOf(name, names);
            if (kind != null) {
                throw new LorararException(path + ": tensor '" + name + "' makes this a " + kind
                    + "; only plain LoRAs can be merged");
            }
        }
        if (source.file.metadata.containsKey(Prepared.KEY)) {
            for (Iterator<String> each = others.iterator(); each.hasNext();) {
                String name = each.next();
                if (name.endsWith(Prepared.FEATURES) || name.endsWith(Prepared.SCALES)) {
                    each.remove();
                }
            }
        }
        String touching = Refusals.touchingALayer(others, names);
        boolean isAll = !others.isEmpty() && others.size() == source.file.tensors.size();
        if (touching != null || isAll) {
            throw new LorararException(path + ": tensor '"
                + (touching != null ? touching : others.get(0))
                + "' belongs to no plain LoRA; give an SDXL LoRA");
        }
        note(others, "tensors that belong to no layer");
    }

    private void refuseUntaken(Map<String, Map<String, String>> named) throws LorararException {
        for (Map.Entry<String, Map<String, String>> layer : named.entrySet()) {
            for (Map.Entry<String, String> part : layer.getValue().entrySet()) {
                String tensor = path + ": tensor '" + part.getValue() + "' ";
                if (part.getKey().equals("bias")) {
                    throw new LorararException(tensor + "changes the bias of '" + layer.getKey()
                        + "' (lora_bias), which a plain LoRA cannot; train without it");
                }
                String kind = names.convertible.get(part.getKey());
                if (kind != null) {
                    throw new LorararException(
                        tensor + "makes this a " + kind + "; " + remedy());
                }
            }
        }
    }

    private String remedy() {
        return "only plain LoRAs can be merged; make one of it: lorarar convert "
            + source.file.file.getName() + " -o OUT.safetensors --rank 32";
    }

    private void leaveOutAlphasAlone(Map<String, Map<String, Safetensors.Entry>> layers) {
        Set<String> alone = new LinkedHashSet<>();
        for (Map.Entry<String, Map<String, Safetensors.Entry>> layer : layers.entrySet()) {
            if (layer.getValue().keySet().equals(Collections.singleton("alpha"))) {
                alone.add(layer.getKey());
            }
        }
        layers.keySet().removeAll(alone);
        note(new ArrayList<>(alone), "layers that have an alpha alone");
    }

    private Map<String, MatrixShape> matrixShapes(
            Map<String, Map<String, Safetensors.Entry>> layers) throws LorararException {
        Map<String, MatrixShape> shapes = new LinkedHashMap<>();
        for (Map.Entry<String, Map<String, Safetensors.Entry>> layer : layers.entrySet()) {
            String name = layer.getKey();
            for (Map.Entry<String, Safetensors.Entry> part : layer.getValue().entrySet()) {
                if (!part.getKey().equals("alpha")) {
                    Layers.checkPart(part.getValue(), name, path);
                }
            }
            Safetensors.Entry up = factor(layer.getValue(), "up", "lora_B", name);
            Safetensors.Entry down = factor(layer.getValue(), "down", "lora_A", name);
            Layers.checkRanks(up, down, name, path);
            shapes.put(name, Layers.matrixShape(up, down));
        }
        return shapes;
    }

    private Safetensors.Entry factor(
            Map<String, Safetensors.Entry> layer, String part, String ending, String name)
            throws LorararException {
        if (!layer.containsKey(part)) {
            throw new LorararException(path + ": layer '" + name + "' has no " + part
                + " factor (" + ending + "); get the file again");
        }
        return layer.get(part);
    }

    private void leaveOutEmpty(
            Map<String, Map<String, Safetensors.Entry>> layers, Map<String, MatrixShape> shapes) {
        List<String> empty = new ArrayList<>();
        for (Map.Entry<String, Map<String, Safetensors.Entry>> layer : layers.entrySet()) {
            if (layer.getValue().get("down").shape[0] == 0) {
                empty.add(layer.getKey());
            }
        }
        layers.keySet().removeAll(empty);
        shapes.keySet().removeAll(empty);
        note(empty, "layers whose ranks are 0");
    }

    private void note(List<String> leftOut, String what) {
        if (!leftOut.isEmpty()) {
            notes.add("left out " + leftOut.size() + " " + what + ": '" + leftOut.get(0) + "'"
                + (leftOut.size() > 1 ? ", ..." : ""));
        }
    }

    private void refuseNothing(Map<String, ?> layers) throws LorararException {
        if (layers.isEmpty()) {
            StringBuilder reason = new StringBuilder();
            for (String note : notes) {
                reason.append(" (").append(note).append(')');
            }
            throw new LorararException(path + ": no LoRA layers found" + reason
                + "; give a LoRA of an SDXL-class model");
        }
    }

    /** The likeliest base that has all layers; `canonical` gets the layers' names in it. */
    private Base resolve(Map<String, MatrixShape> shapes, Map<String, String> canonical)
            throws LorararException {
        Map<String, Naming.Spelling> spellings = new HashMap<>();
        for (String name : shapes.keySet()) {
            spellings.put(name, names.naming.spelling(name));
        }
        Base likeliest = null;
        boolean isCovered = false;
        for (Base base : names.bases) {
            Map<String, String> found = new LinkedHashMap<>();
            for (Map.Entry<String, MatrixShape> layer : shapes.entrySet()) {
                Naming.Spelling spelling = spellings.get(layer.getKey());
                for (String meant : names.meanings(spelling, base.layersPerBlock)) {
                    if (base.has(meant, layer.getValue())) {
                        found.put(layer.getKey(), meant);
                    }
                }
            }
            boolean covers = base.isCoveredBy(found.values());
            if (found.size() == shapes.size() && (likeliest == null || covers && !isCovered)) {
                likeliest = base;
                isCovered = covers;
                canonical.clear();
                canonical.putAll(found);
            }
        }
        if (likeliest == null) {
            throw new LorararException(path + ": " + Refusals.otherBase(shapes, names));
        }
        refuseTwins(shapes.keySet(), canonical);
        return likeliest;
    }

    private void refuseTwins(Set<String> layers, Map<String, String> canonical)
            throws LorararException {
        Map<String, String> first = new HashMap<>();
        for (String name : layers) {
            String twin = first.put(canonical.get(name), name);
            if (twin != null) {
                throw new LorararException(path + ": '" + twin + "' and '" + name
                    + "' name the same layer '" + canonical.get(name)
                    + "'; save one of them alone");
            }
        }
    }

    private void checkFit(String name, Map<String, Safetensors.Entry> layer, long[] shape)
            throws LorararException {
        Safetensors.Entry up = layer.get("up");
        Safetensors.Entry down = layer.get("down");
        if (!Layers.fit(up, down, shape)) {
            throw new LorararException(path + ": layer '" + name + "' has up "
                + Shapes.text(up.shape) + " and down " + Shapes.text(down.shape)
                + ", which make no " + Shapes.text(shape) + "; save the LoRA again");
        }
    }
}

package org.lorarar.core;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Pattern;

/** Why tensors are no plain LoRA of a known base. */
final class Refusals {
    private Refusals() {
    }

    /** The kind of adapter that a tensor of this name makes of its file, or null. */
    static String kindOf(String tensor, LayerNames names) {
        for (Map.Entry<Pattern, String> form : names.refused.entrySet()) {
            if (form.getKey().matcher(tensor).find()) {
                return form.getValue();
            }
        }
        return null;
    }

    /** The first of these tensors whose name begins as a layer's does, or null. */
    static String touchingALayer(Collection<String> tensors, LayerNames names) {
        for (String tensor : tensors) {
            String owner = tensor;
            for (int dropped = 0; dropped < 3 && owner.indexOf('.') >= 0; dropped++) {
                owner = owner.substring(0, owner.lastIndexOf('.'));
                if (!names.meaningsInAnyBase(owner).isEmpty()) {
                    return tensor;
                }
            }
        }
        return null;
    }

    /** Which of these layers is in no known base, or has another shape in all that have it. */
    static String otherBase(Map<String, MatrixShape> shapes, LayerNames names) {
        for (Map.Entry<String, MatrixShape> layer : shapes.entrySet()) {
            List<String> meant = names.meaningsInAnyBase(layer.getKey());
            if (meant.isEmpty()) {
                return "layer '" + layer.getKey()
                    + "' is in no SDXL-class model; this LoRA is for another base";
            }
            TreeSet<MatrixShape> known = new TreeSet<>();
            for (Base base : names.bases) {
                for (String name : meant) {
                    if (base.shapes.containsKey(name)) {
                        known.add(MatrixShape.of(base.shapes.get(name)));
                    }
                }
            }
            if (!known.contains(layer.getValue())) {
                return "layer '" + layer.getKey() + "' is " + layer.getValue()
                    + ", but SDXL-class bases have " + alternatives(known)
                    + "; this LoRA is for another base (SD 1.5, SD 2, Flux)";
            }
        }
        return "its layers fit no one base of " + names.baseNames();
    }

    private static String alternatives(Collection<MatrixShape> shapes) {
        StringBuilder all = new StringBuilder();
        for (MatrixShape shape : shapes) {
            all.append(all.length() == 0 ? "" : " or ").append(shape);
        }
        return all.toString();
    }
}
